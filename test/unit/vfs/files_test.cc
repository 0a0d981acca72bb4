// Which files a mount has open, and when their owner hears that they no longer are.
#include "vfs/files.h"

#include <boost/test/unit_test.hpp>
#include <future>

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

// Who opens it again before that is told what the owner has lost; bytes are sent again while it is open
// there.
BOOST_AUTO_TEST_CASE(a_file_is_closed_when_its_bytes_are_on_the_owners_disk) {
  World world;
  std::promise<bool> closed;
  auto done = closed.get_future();
  bool durable = false;
  int asked = 0;
  world.volume->refuse = [&](const RequestBody& body) {
    if (std::holds_alternative<Close>(body)) closed.set_value(durable);
    if (std::holds_alternative<Hello>(body) && ++asked == 2) {  // the owner has synced
      durable = true;
      world.volume->log.durable = world.volume->logged;
    }
    return Code::ok;
  };
  auto file = world.open();
  file->write({}, 0, view(std::string_view("bytes")), OpenFile::Mode::buffered, [](Code) {});
  world.files->release(file);
  BOOST_REQUIRE((done.wait_for(std::chrono::seconds(20)) == std::future_status::ready));
  BOOST_TEST(done.get());
  world.background.stop();
  BOOST_TEST(asked == 2);
}

BOOST_AUTO_TEST_CASE(a_file_that_is_opened_before_that_goes_on_as_it_was) {
  World world;
  auto file = world.open();
  file->write({}, 0, view(std::string_view("bytes")), OpenFile::Mode::buffered, [](Code) {});
  std::promise<void> asked;
  world.volume->refuse = [&, told = false](const RequestBody& body) mutable {
    if (std::holds_alternative<Hello>(body) && !std::exchange(told, true)) asked.set_value();
    return Code::ok;
  };
  world.files->release(file);
  BOOST_REQUIRE((asked.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready));
  BOOST_TEST(world.open() == file);
  world.background.stop();
  world.volume->lose_power();
  Code synced = Code::cancelled;
  file->sync({}, [&](Code code) { synced = code; });
  BOOST_TEST((synced == Code::ok));
  BOOST_TEST(text(world.volume->durable) == "bytes");
}

BOOST_AUTO_TEST_SUITE_END()
