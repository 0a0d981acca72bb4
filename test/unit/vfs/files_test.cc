// Which files a mount has open, and when their owner hears that they no longer are.
#include "vfs/files.h"

#include <boost/test/unit_test.hpp>
#include <future>
#include <thread>

#include "fake_volume.h"
#include "peer/runtime/real.h"

using namespace efs;

namespace {

struct World {
  std::shared_ptr<OpenFile> open() {
    std::shared_ptr<OpenFile> opened;
    files->acquire(volume, 9, [&](std::shared_ptr<OpenFile> file) { opened = std::move(file); });
    BOOST_REQUIRE(opened);
    return opened;
  }
  const Clock& clock = real_clock();
  Background background{clock};
  FileContext context{background};
  std::shared_ptr<FakeVolume> volume = std::make_shared<FakeVolume>();
  std::shared_ptr<Files> files = std::make_shared<Files>(context);
};

}  // namespace

BOOST_AUTO_TEST_SUITE(files)

// PostgreSQL's checkpointer opens and syncs what others have written and closed.
BOOST_AUTO_TEST_CASE(who_opens_a_closed_file_hears_at_fsync_of_what_was_lost) {
  for (const bool lost : {true, false}) {
    World world;
    std::promise<void> closed;
    world.volume->refuse = [&](const RequestBody& body) {
      if (std::holds_alternative<Close>(body)) closed.set_value();
      return Code::ok;
    };
    auto file = world.open();
    file->write({}, 0, view(std::string_view("bytes")), OpenFile::Mode::buffered, [](Code) {});
    world.files->release(file);
    BOOST_REQUIRE((closed.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready));
    world.background.stop();
    BOOST_TEST(world.context.kept_bytes.load() == 0u);
    if (!lost) world.volume->log.durable = world.volume->logged;
    world.volume->lose_power();
    world.files->owner_restarted(*world.volume);
    world.volume->restart(world.volume->logged);  // and once more: this one has nothing to lose
    world.files->owner_restarted(*world.volume);
    auto again = world.open();
    BOOST_TEST(again != file);
    std::vector<Code> synced;
    for (int i = 0; i < 2; ++i) again->sync({}, [&](Code code) { synced.push_back(code); });
    BOOST_TEST((synced == std::vector<Code>{lost ? Code::io : Code::ok, Code::ok}));
  }
}

// Its owner did not answer the close: it was opened again before it was closed.
BOOST_AUTO_TEST_CASE(a_loss_that_was_told_is_not_told_to_who_opens_next) {
  World world;
  std::atomic<int> closes{0};
  world.volume->refuse = [&](const RequestBody& body) {
    if (!std::holds_alternative<Close>(body)) return Code::ok;
    return ++closes == 1 ? Code::unreachable : Code::ok;
  };
  const auto closed = [&](int times) {
    for (int i = 0; i < 2000 && closes.load() < times; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return closes.load() >= times;
  };
  auto file = world.open();
  Reply changed;
  changed.verifier = world.volume->verifier;
  changed.logged = ++world.volume->logged;
  changed.attributes = world.volume->attributes();
  file->own_change(changed);
  world.files->release(file);
  BOOST_REQUIRE(closed(1));
  world.volume->lose_power();
  world.files->owner_restarted(*world.volume);
  for (const Code wanted : {Code::io, Code::ok}) {
    auto again = world.open();
    std::optional<Code> synced;
    again->sync({}, [&](Code code) { synced = code; });
    BOOST_TEST((synced == wanted));
    const int before = closes.load();
    world.files->release(again);
    BOOST_REQUIRE(closed(before + 1));
  }
}

BOOST_AUTO_TEST_SUITE_END()
