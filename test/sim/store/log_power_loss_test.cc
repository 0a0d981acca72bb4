// Shows: after power loss at any step, the opening of the log included, replay is a prefix of what was
// appended that holds everything that was synced, byte for byte; after a kill it holds everything whose
// append() returned. Records that were superseded do not come back, whatever files were recycled. A clean
// close is told from an unclean one.
//
// How: random appends of three groups, syncs and releases on a simulated disk with small files; the disk
// fails at a random call or between calls, then power is lost or the process dies; the log is opened again
// (with more failures), compared with a model, and used on.
#include <map>
#include <set>

#include "peer/runtime/simulated.h"
#include "peer/store/log.h"
#include "seeds.h"

namespace efs {
namespace {

using test::Choice;

struct Entry {
  uint64_t id = 0;  // of all appends, in order
  uint32_t group = 0;
  uint64_t term = 0;
  uint64_t index = 0;
  size_t size = 0;
};

// What a reader of the log believes: a record supersedes those of its group from its index on.
using Believed = std::map<uint32_t, std::map<uint64_t, uint64_t>>;  // group -> index -> id

void believe(Believed& state, const Entry& entry) {
  auto& group = state[entry.group];
  group.erase(group.lower_bound(entry.index), group.end());
  group[entry.index] = entry.id;
}

std::string to_text(const Believed& state) {
  std::string text;
  for (const auto& [group, rows] : state) {
    text += "\n  group " + std::to_string(group) + ":";
    for (auto [index, id] : rows) text += " " + std::to_string(index) + "=" + std::to_string(id);
  }
  return text;
}

class Run {
 public:
  explicit Run(uint64_t seed) : choice_(seed), disk_(make_simulated_disk(seed)) {
    options_.file_bytes = 16384 << choice_.below(3);
    options_.spare_files = uint32_t(choice_.below(3));
  }

  void lives(int count) {
    for (int life = 0; life < count; ++life) {
      open_until_it_works();
      use();
      crash();
    }
    open_until_it_works();
  }

 private:
  static Bytes payload_of(const Entry& entry) {
    Bytes payload(entry.size);
    for (size_t i = 0; i < payload.size(); ++i) payload[i] = uint8_t(entry.id * 31 + i * 7);
    return payload;
  }

  void open_until_it_works() {
    for (int attempt = 0;; ++attempt) {
      if (attempt < 4 && choice_.one_in(2)) disk_->fail_after(int64_t(choice_.below(12)) + 1);
      std::vector<Entry> replayed;
      auto log = Log::open(disk_->files(), "log", options_, [&](const Log::Record& record) {
        replayed.push_back(check_record(record));
        return Status();
      });
      if (log) {
        disk_->fail_after(-1);
        log_ = std::move(*log);
        compare(replayed);
        if (attempt == 0 && !close_failed_) BOOST_TEST(log_->unclean_start() == (!closed_ && !first_));
        first_ = closed_ = close_failed_ = false;
        for (auto [group, index] : released_) log_->release(group, index);
        return;
      }
      BOOST_REQUIRE_MESSAGE(log.error().code == Code::io, to_text(log.error()));
      BOOST_REQUIRE(attempt < 10);
      stop();
    }
  }

  void stop() {
    if (choice_.one_in(2)) {
      disk_->power_loss();
      only_killed_ = false;
    } else {
      disk_->process_died();
    }
  }

  Entry check_record(const Log::Record& record) {
    Entry wanted;
    BOOST_REQUIRE(record.payload.size() >= 8);
    wanted.id = get_le<uint64_t>(record.payload.data());
    BOOST_REQUIRE(wanted.id < ever_.size());
    wanted = ever_[wanted.id];
    BOOST_TEST(record.group == wanted.group);
    BOOST_TEST(record.term == wanted.term);
    BOOST_TEST(record.index == wanted.index);
    Bytes payload = payload_of(wanted);
    put_le(payload.data(), wanted.id);
    BOOST_TEST((to_bytes(record.payload) == payload));
    return wanted;
  }

  // What was appended up to the last record that must be there, or is.
  void compare(const std::vector<Entry>& replayed) {
    uint64_t cut = only_killed_ ? std::max(required_, returned_) : required_;
    Believed found;
    for (size_t i = 0; i < replayed.size(); ++i) {
      if (i > 0) BOOST_TEST(replayed[i - 1].id < replayed[i].id);
      cut = std::max(cut, replayed[i].id + 1);
      believe(found, replayed[i]);
    }
    std::erase_if(log_of_model_, [&](const Entry& entry) { return entry.id >= cut; });
    Believed wanted;
    for (const Entry& entry : log_of_model_) believe(wanted, entry);
    for (auto [group, index] : released_) {
      wanted[group].erase(wanted[group].begin(), wanted[group].upper_bound(index));
      found[group].erase(found[group].begin(), found[group].upper_bound(index));
    }
    std::erase_if(wanted, [](const auto& group) { return group.second.empty(); });
    std::erase_if(found, [](const auto& group) { return group.second.empty(); });
    BOOST_REQUIRE_MESSAGE(found == wanted, "replayed" << to_text(found) << "\nappended" << to_text(wanted));
    required_ = std::max(required_, cut);  // the opening made it durable
    next_index_.clear();
    for (const auto& [group, rows] : wanted) next_index_[group] = rows.rbegin()->first + 1;
    for (auto [group, index] : released_) next_index_[group] = std::max(next_index_[group], index + 1);
  }

  void use() {
    if (!choice_.one_in(4)) disk_->fail_after(int64_t(choice_.below(200)) + 1);
    for (uint64_t steps = choice_.below(200); steps > 0; --steps) {
      if (!step()) return;
    }
    if (choice_.one_in(3)) {
      closed_ = log_->close_cleanly().has_value();
      close_failed_ = !closed_;  // its mark may be there or not
      if (closed_) required_ = ever_.size();
    }
  }

  bool step() {
    uint64_t kind = choice_.below(10);
    if (kind < 2) {
      auto before = ever_.size();
      if (!log_->sync()) return false;
      BOOST_TEST(!log_->dirty());
      required_ = before;
    } else if (kind < 3) {
      uint32_t group = uint32_t(choice_.below(3));
      uint64_t last = next_index_[group];
      if (last == 0) return true;
      uint64_t index = std::max(released_[group], choice_.below(last));
      // What is released is in a checkpoint, and that is written after a sync.
      auto before = ever_.size();
      if (!log_->sync()) return false;
      required_ = before;
      released_[group] = index;
      log_->release(group, index);
    } else {
      return append();
    }
    return true;
  }

  bool append() {
    std::vector<Entry> entries;
    std::vector<Bytes> payloads;
    std::vector<Log::Record> records;
    for (uint64_t count = choice_.one_in(4) ? choice_.below(6) + 1 : 1; count > 0; --count) {
      Entry entry;
      entry.id = ever_.size();
      entry.group = uint32_t(choice_.below(3));
      uint64_t& next = next_index_[entry.group];
      uint64_t lowest = released_[entry.group] + 1;
      next = std::max(next, lowest);
      if (choice_.one_in(12)) next = lowest + choice_.below(next - lowest + 1);
      entry.index = next++;
      entry.term = entry.id / 7;
      entry.size = 8 + choice_.below(choice_.one_in(10) ? 20000 : 600);
      ever_.push_back(entry);
      entries.push_back(entry);
    }
    for (const Entry& entry : entries) {
      payloads.push_back(payload_of(entry));
      put_le(payloads.back().data(), entry.id);
      records.push_back({entry.group, entry.term, entry.index, payloads.back()});
    }
    auto appended = log_->append(records);
    log_of_model_.insert(log_of_model_.end(), entries.begin(), entries.end());  // perhaps, when it failed
    if (appended) returned_ = ever_.size();
    return appended.has_value();
  }

  void crash() {
    log_.reset();
    only_killed_ = true;
    stop();
  }

  Choice choice_;
  std::unique_ptr<SimulatedDisk> disk_;
  LogOptions options_;
  std::unique_ptr<Log> log_;
  std::vector<Entry> ever_;               // by id
  std::vector<Entry> log_of_model_;       // those that may be there
  uint64_t required_ = 0, returned_ = 0;  // ids below must be there: at all; after a kill
  std::map<uint32_t, uint64_t> released_, next_index_;
  bool closed_ = false, close_failed_ = false, first_ = true, only_killed_ = false;
};

BOOST_AUTO_TEST_SUITE(log_power_loss)

BOOST_AUTO_TEST_CASE(replay_is_a_prefix_with_all_that_was_synced) {
  for (uint64_t seed : test::seeds()) {
    BOOST_TEST_CONTEXT("EFS_SEED=" << seed) {
      Run(seed).lives(6);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
