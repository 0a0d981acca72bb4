#include "tools/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "tools/table.h"

namespace efs::tools {

namespace {
constexpr int64_t kFirstDrawNs = kSecond;
constexpr int64_t kBetweenDrawsNs = 100 * kMillisecond;
constexpr size_t kBarWidth = 24;
constexpr size_t kMaxTitle = 30;
}  // namespace

Progress::Progress(Context& context, std::string title, uint64_t total_bytes)
    : context_(context),
      title_(std::move(title)),
      total_bytes_(total_bytes),
      started_ns_(context.clock.now_ns()) {}

Progress::~Progress() {
  if (visible_) context_.err << "\r\033[K" << std::flush;
}

void Progress::add(uint64_t bytes) {
  done_bytes_ += bytes;
  if (!context_.terminal.errors || context_.quiet) return;
  int64_t now = context_.clock.now_ns();
  if (now - started_ns_ >= kFirstDrawNs && now - drawn_ns_ >= kBetweenDrawsNs) draw(now);
}

void Progress::draw(int64_t now_ns) {
  drawn_ns_ = now_ns;
  visible_ = true;
  double seconds = double(now_ns - started_ns_) / double(kSecond);
  double rate = double(done_bytes_) / seconds;
  std::string title = printable(title_);
  if (title.size() > kMaxTitle) title = "..." + title.substr(title.size() - kMaxTitle + 3);
  std::string line = fmt::format("{}  {}  {}/s", title, human_size(done_bytes_), human_size(uint64_t(rate)));
  if (total_bytes_ > 0) {
    double part = std::min(1.0, double(done_bytes_) / double(total_bytes_));
    auto filled = size_t(part * kBarWidth);
    int64_t left =
        rate > 0 && total_bytes_ > done_bytes_ ? int64_t(double(total_bytes_ - done_bytes_) / rate + 0.5) : 0;
    line = fmt::format("{} [{}{}] {:3}% of {}  {}/s  {} left", title, std::string(filled, '#'),
                       std::string(kBarWidth - filled, '.'), int(part * 100), human_size(total_bytes_),
                       human_size(uint64_t(rate)), duration_text(left));
  }
  context_.err << "\r" << line.substr(0, size_t(std::max(context_.terminal.width - 1, 1))) << "\033[K"
               << std::flush;
}

}  // namespace efs::tools
