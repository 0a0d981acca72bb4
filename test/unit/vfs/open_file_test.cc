// A file that is open here, against an owner whose answers come late, out of order, or not.
#include "vfs/open_file.h"

#include <boost/test/unit_test.hpp>
#include <random>
#include <thread>

#include "fake_volume.h"
#include "vfs/limits.h"

using namespace efs;

namespace {

struct World {
  explicit World(bool local = false) : volume(std::make_shared<FakeVolume>(local)) {
    file = std::make_shared<OpenFile>(context, volume, 9);
  }
  ~World() {
    background.stop();
    volume->queue.clear();  // what is never answered holds the file, and the file the volume
  }
  // Code::cancelled: not answered yet.
  Code write(uint64_t offset, std::string_view bytes, OpenFile::Mode mode = OpenFile::Mode::buffered) {
    auto result = std::make_shared<Code>(Code::cancelled);
    file->write({}, offset, view(bytes), mode, [result](Code code) { *result = code; });
    return *result;
  }
  std::string read(uint64_t offset, uint32_t length) {
    auto found = std::make_shared<std::string>("(no answer)");
    file->read({}, offset, length, {}, [found](Code code, const ReadBytes& bytes) {
      *found = code == Code::ok ? std::string(text(bytes.joined())) : std::string(name_of(code));
    });
    return *found;
  }
  Code flush() {
    auto result = std::make_shared<Code>(Code::cancelled);
    file->flush([result](Code code) { *result = code; });
    return *result;
  }
  Code sync() {
    auto result = std::make_shared<Code>(Code::cancelled);
    file->sync({}, [result](Code code) { *result = code; });
    return *result;
  }
  void write_and_set_mode() {
    write(0, "abc");
    Attributes shown;
    SetAttributes set;
    set.inode = 9;
    set.mode = 0600;
    BOOST_TEST(file->set_attributes({}, set, shown));
    flush();
  }
  // By a request of its own, which the volume has answered.
  void changed_here() {
    Reply reply;
    reply.verifier = volume->verifier;
    reply.logged = volume->logged;
    reply.attributes = volume->attributes();
    file->own_change(reply);
  }
  template <typename Body>
  size_t asked() const {
    return size_t(std::count_if(volume->seen.begin(), volume->seen.end(),
                                [](const RequestBody& body) { return std::holds_alternative<Body>(body); }));
  }

  ManualClock clock;
  Background background{clock};
  FileContext context{background, nullptr, -1};  // who waits learns at once that the owner is away
  std::shared_ptr<FakeVolume> volume;
  std::shared_ptr<OpenFile> file;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(file)

BOOST_AUTO_TEST_CASE(writes_wait_here_and_are_read_here) {
  World world;
  world.volume->content = to_bytes(view("0123456789"));
  BOOST_TEST((world.write(2, "AB") == Code::ok));
  BOOST_TEST((world.write(15, "Z") == Code::ok));
  BOOST_TEST(world.asked<Write>() == 0u);
  BOOST_TEST(world.read(0, 100) == std::string("01AB456789\0\0\0\0\0Z", 16));
  BOOST_TEST(world.read(2, 2) == "AB");
  BOOST_TEST(world.file->seen(world.volume->attributes()).size == 16u);
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.asked<Write>() == 0u);
  BOOST_TEST(world.asked<WriteScattered>() == 1u);
  BOOST_TEST(text(world.volume->content) == std::string_view("01AB456789\0\0\0\0\0Z", 16));
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(attributes_wait_with_the_bytes_and_go_with_them) {
  World world;
  world.changed_here();
  world.write(0, "abc");
  SetAttributes change;
  change.inode = 9;
  change.mode = 0751;
  change.uid = 7;
  Attributes shown;
  BOOST_TEST(world.file->set_attributes({}, change, shown));
  BOOST_TEST(shown.mode == 0100751u);
  BOOST_TEST(shown.size == 3u);
  change = {};
  change.inode = 9;
  change.mtime_ns = 12;
  BOOST_TEST(world.file->set_attributes({}, change, shown));
  BOOST_TEST(shown.uid == 7u);
  BOOST_TEST(shown.mtime_ns == 12);
  BOOST_TEST(world.file->seen(world.volume->attributes()).mtime_ns == 12);
  BOOST_TEST(!world.file->clean());
  BOOST_TEST(world.volume->seen.empty());
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_REQUIRE(world.volume->seen.size() == 1u);
  const auto& write = std::get<Write>(world.volume->seen.front());
  BOOST_REQUIRE(write.attributes.has_value());
  BOOST_TEST(*write.attributes->mode == 0751u);
  BOOST_TEST(*write.attributes->uid == 7u);
  BOOST_TEST(*write.attributes->mtime_ns == 12);
  BOOST_TEST(world.file->clean());
  BOOST_TEST(world.context.pending_attributes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(what_is_written_after_attributes_comes_after_them) {
  World world;
  world.changed_here();
  world.volume->deferred = true;
  Attributes shown;
  SetAttributes change;
  change.inode = 9;
  change.mtime_ns = 12;
  BOOST_TEST(world.file->set_attributes({}, change, shown));
  world.write(0, "abc");
  BOOST_TEST(world.file->seen(world.volume->attributes()).mtime_ns > 12);
  world.file->set_attributes({}, change, shown);
  world.write(1, "x");
  world.file->flush([](Code) {});
  while (world.volume->step(world.volume->queue.size() - 1)) {
  }
  std::string order;
  for (const RequestBody& body : world.volume->seen) {
    const auto* write = std::get_if<Write>(&body);
    order += write == nullptr ? "s" : write->attributes ? "W" : "w";
  }
  BOOST_TEST(order == "sWw");
  BOOST_TEST(text(world.volume->content) == "axc");
}

BOOST_AUTO_TEST_CASE(attributes_are_set_although_there_is_no_room_for_the_bytes) {
  World world;
  world.changed_here();
  world.volume->refuse = [](const RequestBody& body) {
    return std::holds_alternative<Write>(body) ? Code::no_space : Code::ok;
  };
  uint64_t seen = world.file->error_mark();
  world.write_and_set_mode();
  BOOST_TEST((world.file->take_error(seen) == Code::no_space));
  BOOST_TEST(world.asked<SetAttributes>() == 1u);
  BOOST_TEST(world.file->clean());
  BOOST_TEST(world.context.pending_attributes.load() == 0u);
}

// Another mount may have set attributes since: that costs these, not the bytes.
BOOST_AUTO_TEST_CASE(bytes_are_written_although_their_attributes_are_refused) {
  World world;
  world.changed_here();
  world.volume->refuse = [](const RequestBody& body) {
    const auto* write = std::get_if<Write>(&body);
    return write != nullptr && write->attributes ? Code::io : Code::ok;
  };
  uint64_t seen = world.file->error_mark();
  world.write_and_set_mode();
  BOOST_TEST((world.file->take_error(seen) == Code::io));
  BOOST_TEST(text(world.volume->content) == "abc");
  BOOST_TEST(world.asked<SetAttributes>() == 0u);
  BOOST_TEST(world.file->clean());
  BOOST_TEST(world.context.pending_attributes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(what_a_program_was_told_of_before_is_late) {
  World world;
  world.write(0, "waited for", OpenFile::Mode::through);
  BOOST_TEST(!world.volume->late.back());
  world.write(0, "buffered");
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.volume->late.back());
  world.volume->lose_power();
  world.write(20, "told so", OpenFile::Mode::through);  // what was lost comes again
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.volume->late.back());
  world.volume->down = true;
  BOOST_TEST((world.write(0, "given up", OpenFile::Mode::through) == Code::unreachable));
  BOOST_TEST(!world.volume->late.back());
  world.volume->down = false;
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.volume->late.back());
}

BOOST_AUTO_TEST_CASE(attributes_that_need_a_judge_go_to_the_owner) {
  World world;
  world.changed_here();
  Attributes shown;
  SetAttributes change;
  change.inode = 9;
  change.mode = 0600;
  Credentials other;
  other.uid = 5;
  BOOST_TEST(!world.file->set_attributes(other, change, shown));
  change.size = 0;
  BOOST_TEST(!world.file->set_attributes({}, change, shown));
  change.size.reset();
  world.file->stop_buffering([](Code) {});
  world.volume->exclusive = false;
  BOOST_TEST(!world.file->set_attributes({}, change, shown));
  BOOST_TEST(world.file->clean());
}

BOOST_AUTO_TEST_CASE(attributes_that_the_owner_lost_are_set_again) {
  World world;
  world.changed_here();
  world.write(0, "abc");
  Attributes shown;
  SetAttributes change;
  change.inode = 9;
  change.mode = 0600;
  change.mtime_ns = 12;
  world.file->set_attributes({}, change, shown);
  world.flush();
  world.volume->lose_power();
  world.volume->seen.clear();
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(text(world.volume->durable) == "abc");
  const SetAttributes* again = nullptr;
  for (const RequestBody& body : world.volume->seen) {
    const auto* write = std::get_if<Write>(&body);
    if (write != nullptr && write->attributes) again = &*write->attributes;
    if (const auto* set = std::get_if<SetAttributes>(&body)) again = set;
  }
  BOOST_REQUIRE(again != nullptr);
  BOOST_TEST(*again->mode == 0600u);
  BOOST_TEST(*again->mtime_ns == 12);
}

BOOST_AUTO_TEST_CASE(a_whole_piece_is_sent_without_being_asked) {
  World world;
  world.write(0, std::string(kPieceBytes, 'x'));
  BOOST_TEST(world.asked<Write>() == 1u);
  BOOST_TEST(world.file->clean());
}

BOOST_AUTO_TEST_CASE(a_newer_write_never_comes_before_an_older_one) {
  World world;
  world.volume->deferred = true;
  world.write(0, "old old");
  Code first = Code::cancelled, second = Code::cancelled;
  world.file->flush([&](Code code) { first = code; });
  world.write(4, "new");
  BOOST_TEST(world.read(0, 7) == "old new");
  world.file->flush([&](Code code) { second = code; });
  BOOST_TEST(world.volume->queue.size() == 1u);  // they overlap: the second waits
  world.volume->step();
  BOOST_TEST((first == Code::ok));
  BOOST_TEST((second == Code::cancelled));
  world.volume->step();
  BOOST_TEST((second == Code::ok));
  BOOST_TEST(text(world.volume->content) == "old new");
}

BOOST_AUTO_TEST_CASE(an_owner_that_is_away_loses_nothing) {
  World world;
  world.volume->down = true;
  world.write(0, "kept");
  BOOST_TEST((world.flush() == Code::unreachable));
  world.context.unreachable_timeout_ns = kMinute;
  BOOST_TEST((world.flush() == Code::cancelled));  // waits on, beyond a failed attempt
  BOOST_TEST(world.read(0, 4) == "kept");
  uint64_t seen = 0;
  BOOST_TEST((world.file->take_error(seen) == Code::ok));
  world.volume->down = false;
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(text(world.volume->content) == "kept");
}

BOOST_AUTO_TEST_CASE(an_error_for_good_is_told_once_to_each_handle) {
  World world;
  uint64_t first = world.file->error_mark(), second = first;
  world.volume->refuse = [](const RequestBody&) { return Code::no_space; };
  world.write(0, "lost");
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST((world.file->take_error(first) == Code::no_space));
  BOOST_TEST((world.file->take_error(first) == Code::ok));
  BOOST_TEST((world.file->take_error(second) == Code::no_space));
  uint64_t opened_later = world.file->error_mark();
  BOOST_TEST((world.file->take_error(opened_later) == Code::ok));
  // And the writer learns of it at once from now on.
  BOOST_TEST((world.write(0, "more") == Code::no_space));
  world.volume->refuse = nullptr;
  BOOST_TEST((world.write(0, "fits") == Code::ok));
  BOOST_TEST(text(world.volume->content) == "fits");
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(fsync_is_durable_and_one_message_when_it_can_be) {
  World world;
  world.write(0, "a");
  BOOST_TEST((world.sync() == Code::ok));
  world.write(1, "b");
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 0u);  // the Writes themselves were durable
  BOOST_TEST(text(world.volume->durable) == "ab");
  BOOST_TEST((world.write(2, "c", OpenFile::Mode::durable) == Code::ok));
  BOOST_TEST(text(world.volume->durable) == "abc");
}

// They may have written since the last one.
BOOST_AUTO_TEST_CASE(fsync_asks_where_nothing_is_heard_of_others) {
  World world;
  world.write(0, "a");
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 0u);
  world.volume->hears = false;
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 1u);
  world.write(1, "b");
  BOOST_TEST((world.sync() == Code::ok));  // with that Write is all that the owner has answered anybody
  BOOST_TEST(world.asked<Sync>() == 1u);
  // It is heard of again (a stat has brought a lease): not of what came in between.
  world.volume->hears = true;
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 2u);
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 2u);
}

BOOST_AUTO_TEST_CASE(scattered_small_pieces_share_a_request) {
  World world;
  const std::string piece(4096, 'p'), large(kScatteredPieceBytes + 1, 'L');
  for (uint64_t i = 1000; i > 0; --i) world.write(i * 3 * 4096, piece);
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<WriteScattered>() == 4u);  // of up to 256 pieces
  BOOST_TEST(world.asked<Write>() == 0u);
  BOOST_TEST(world.asked<Sync>() == 1u);
  for (uint64_t i = 1; i <= 1000; ++i)
    BOOST_REQUIRE(text(world.volume->durable).substr(i * 3 * 4096, 4096) == piece);
  // What one request can carry is durable by itself.
  world.write(0, "a");
  world.write(100, "b");
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 1u);
  BOOST_TEST(world.asked<WriteScattered>() == 5u);
  BOOST_TEST(text(world.volume->durable).substr(100, 1) == "b");
  // Large ones go alone.
  world.write(0, "c");
  world.write(200, large);
  world.write(4 * kPieceBytes, "d");
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.asked<WriteScattered>() == 6u);
  BOOST_TEST(world.asked<Write>() == 1u);
  // Refused, they are all dropped, and the error is told.
  uint64_t seen = world.file->error_mark();
  world.volume->refuse = [](const RequestBody&) { return Code::no_space; };
  world.write(0, "e");
  world.write(300, "f");
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST((world.file->take_error(seen) == Code::no_space));
  BOOST_TEST(world.file->clean());
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
  BOOST_TEST(world.volume->ordered);
}

BOOST_AUTO_TEST_CASE(what_the_owner_lost_is_sent_again) {
  World world;
  world.write(0, "aaaa");
  world.write(10, "bbbb");
  BOOST_TEST((world.flush() == Code::ok));
  world.write(2, "CC");  // newer than what will be sent again
  world.volume->lose_power();
  BOOST_TEST(world.volume->content.empty());
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(text(world.volume->durable) == std::string_view("aaCC\0\0\0\0\0\0bbbb", 14));
  BOOST_TEST(world.context.kept_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(what_the_owner_lost_is_sent_again_when_it_says_so) {
  World world;
  world.write(0, "aaaa");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->lose_power();
  world.file->owner_restarted({});
  BOOST_TEST(text(world.volume->content) == "aaaa");
}

BOOST_AUTO_TEST_CASE(what_the_owner_lost_is_kept_however_long_it_was_away) {
  World world;
  world.write(0, "aaaa");
  BOOST_TEST((world.flush() == Code::ok));
  world.background.stop();  // nothing runs beside this
  world.clock.now += kMinute;
  world.file->owner_restarted({});  // by mistake: nothing changes
  BOOST_TEST(world.context.kept_bytes.load() == 4u);
  world.volume->lose_power();
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(text(world.volume->durable) == "aaaa");
}

// Others may have written there since.
BOOST_AUTO_TEST_CASE(what_the_owner_found_again_is_not_sent_again) {
  World world;
  world.write(0, "aaaabbbb");
  BOOST_TEST((world.flush() == Code::ok));
  const uint64_t first = world.volume->logged;
  world.write(6, "CC");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->content = to_bytes(view("othersbb"));
  world.volume->restart(first);
  world.file->owner_restarted({});
  BOOST_TEST(text(world.volume->content) == "othersCC");
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.context.kept_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(what_is_on_the_owners_disk_is_let_go_of) {
  World world;
  world.write(0, "aaaa");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->log.durable = world.volume->logged;
  world.write(0, "b");
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.context.kept_bytes.load() == 1u);
  // A run that came and went unseen: nobody knows what it found.
  world.volume->restart(world.volume->logged);
  world.volume->restart(world.volume->logged);
  world.volume->content.clear();
  world.file->owner_restarted({});
  BOOST_TEST(text(world.volume->content) == "b");
}

BOOST_AUTO_TEST_CASE(what_was_truncated_is_not_sent_again) {
  World world;
  world.write(0, "aaaabbbb");
  BOOST_TEST((world.flush() == Code::ok));
  world.file->forget_written(4, UINT64_MAX);
  world.volume->lose_power();
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(text(world.volume->durable) == "aaaa");
}

BOOST_AUTO_TEST_CASE(bytes_that_could_not_be_kept_fail_the_fsync) {
  World world;
  world.context.kept_bytes = kKeptMountBytes;  // others fill it
  world.write(0, "gone");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->lose_power();
  world.write(0, "new");
  BOOST_TEST((world.sync() == Code::io));
  BOOST_TEST((world.sync() == Code::ok));
}

// A truncation cannot be repeated: others may have written behind it.
BOOST_AUTO_TEST_CASE(a_truncation_that_the_owner_lost_fails_the_fsync) {
  World world;
  world.write(0, "aaaabbbb");
  BOOST_TEST((world.sync() == Code::ok));
  for (const bool lost : {true, false}) {
    ++world.volume->logged;
    world.changed_here();
    world.file->forget_written(4, UINT64_MAX);
    if (!lost) world.volume->log.durable = world.volume->logged;
    world.write(0, "x");
    BOOST_TEST((world.flush() == Code::ok));
    world.volume->lose_power();
    BOOST_TEST((world.sync() == (lost ? Code::io : Code::ok)));
    BOOST_TEST((world.sync() == Code::ok));
  }
}

BOOST_AUTO_TEST_CASE(lost_bytes_are_sent_again_by_whom_they_were_written) {
  World world;
  const Credentials one{7, 7, {}, true}, other{8, 8, {}, true};
  world.file->write(one, 0, view(std::string_view("aaaa")), OpenFile::Mode::buffered, [](Code) {});
  BOOST_TEST((world.flush() == Code::ok));
  world.file->append(other, to_bytes(view("bbbb")), false, true, {}, [](Code, uint64_t) {});
  world.file->write(other, 2, view(std::string_view("BB")), OpenFile::Mode::buffered, [](Code) {});
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->lose_power();
  world.volume->seen.clear();
  world.volume->uids.clear();
  world.file->owner_restarted({});
  BOOST_TEST(text(world.volume->content) == "aaBBbbbb");
  BOOST_TEST(world.volume->seen.size() == 2u);
  std::sort(world.volume->uids.begin(), world.volume->uids.end());
  BOOST_TEST(world.volume->uids == (std::vector<uint32_t>{7, 8}));
}

BOOST_AUTO_TEST_CASE(a_time_that_was_set_after_lost_bytes_is_set_after_them_again) {
  World world;
  world.changed_here();
  world.write(0, "aaaa");
  BOOST_TEST((world.flush() == Code::ok));
  SetAttributes set;
  set.inode = 9;
  set.mtime_ns = 5;
  Attributes shown;
  BOOST_TEST(world.file->set_attributes({}, set, shown));
  world.volume->deferred = true;
  world.file->flush([](Code) {});  // on its way when the owner restarts
  world.volume->lose_power();
  world.file->owner_restarted({});
  while (world.volume->step()) {
  }
  BOOST_TEST(text(world.volume->content) == "aaaa");
  const auto* last = std::get_if<SetAttributes>(&world.volume->seen.back());
  BOOST_REQUIRE(last != nullptr);
  BOOST_TEST(last->mtime_ns.value_or(0) == 5);
}

BOOST_AUTO_TEST_CASE(who_waits_for_what_is_sent_again_goes_on_when_it_is_answered) {
  World world;
  world.write(0, "aaaa");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->lose_power();
  world.volume->deferred = true;
  auto resending = std::make_shared<int>();
  const std::weak_ptr<int> waits = resending;
  world.file->owner_restarted(std::move(resending));
  BOOST_TEST(!waits.expired());
  world.volume->down = true;
  while (world.volume->step()) {
  }
  BOOST_TEST(!waits.expired());
  world.volume->down = false;
  world.file->flush([](Code) {});
  while (world.volume->step()) {
  }
  BOOST_TEST(waits.expired());
  // Nothing is sent again, or the mount ends.
  auto second = std::make_shared<int>();
  const std::weak_ptr<int> ends = second;
  world.file->owner_restarted(std::move(second));
  BOOST_TEST(ends.expired());
}

BOOST_AUTO_TEST_CASE(what_sets_nothing_is_for_the_owner) {
  World world;
  world.changed_here();
  SetAttributes nothing;
  nothing.inode = 9;
  Attributes shown;
  BOOST_TEST(!world.file->set_attributes({}, nothing, shown));
}

BOOST_AUTO_TEST_CASE(a_time_in_the_future_does_not_outlast_a_write) {
  World world;
  world.changed_here();
  SetAttributes set;
  set.inode = 9;
  set.mtime_ns = world.clock.wall_ns() + kHour;
  Attributes shown;
  BOOST_TEST(world.file->set_attributes({}, set, shown));
  BOOST_TEST(shown.mtime_ns == *set.mtime_ns);
  world.write(0, "a");
  BOOST_TEST(world.file->seen(world.volume->attributes()).mtime_ns == world.clock.wall_ns());
}

// Not only who happens to sync when it is found out.
BOOST_AUTO_TEST_CASE(bytes_that_could_not_be_kept_are_missed_by_each_handle) {
  World world;
  uint64_t first = world.file->error_mark(), second = first;
  world.context.kept_bytes = kKeptMountBytes;
  world.write(0, "gone");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->lose_power();
  BOOST_TEST((world.write(0, "new", OpenFile::Mode::durable) == Code::io));
  BOOST_TEST((world.file->take_error(first) == Code::io));
  BOOST_TEST((world.file->take_error(first) == Code::ok));
  BOOST_TEST((world.file->take_error(second) == Code::io));
}

BOOST_AUTO_TEST_CASE(a_sync_does_not_cover_what_is_answered_beside_it) {
  World world;
  world.context.kept_bytes = kKeptMountBytes;
  world.write(0, "a");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->deferred = true;
  Code code = Code::cancelled;
  world.file->sync({}, [&](Code result) { code = result; });
  world.write(1, "b");
  world.file->flush([](Code) {});
  BOOST_REQUIRE(world.volume->queue.size() == 2u);
  world.volume->durable = world.volume->content;  // the owner syncs, then writes, and that is answered first
  const uint64_t logged = world.volume->logged;
  world.volume->step(1);
  const Bytes durable = world.volume->durable;
  world.volume->step();
  BOOST_TEST((code == Code::ok));
  world.volume->deferred = false;
  world.volume->durable = durable;
  world.volume->log.durable = logged;
  world.volume->lose_power();
  BOOST_TEST((world.sync() == Code::io));  // b is gone
}

BOOST_AUTO_TEST_CASE(an_fsync_is_about_what_others_changed_too) {
  World world;
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 1u);
  world.file->attributes_are_stale();
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 2u);
}

// Its owner has one log: what is durable in it, all before is.
BOOST_AUTO_TEST_CASE(a_durable_write_speaks_of_what_was_answered_before) {
  World world;
  world.changed_here();
  world.write(0, "a");
  BOOST_TEST((world.sync() == Code::ok));
  BOOST_TEST(world.asked<Sync>() == 0u);
  ++world.volume->logged;
  world.changed_here();
  world.write(0, "b");
  world.volume->restart(world.volume->log.durable);  // and of another run, nothing
  BOOST_TEST((world.sync() == Code::io));
  BOOST_TEST(world.asked<Sync>() == 1u);
}

// The owner is younger than what it has said before.
BOOST_AUTO_TEST_CASE(what_was_only_read_is_shown_as_the_owner_has_it_after_a_restart) {
  World world;
  world.volume->change = 100;
  Attributes before = world.volume->attributes();
  before.size = 9;
  world.file->opened(before, 0);
  world.volume->restart(0);
  world.volume->change = 90;
  world.file->owner_restarted({});
  BOOST_TEST(world.file->seen(world.volume->attributes()).size == 0u);
}

BOOST_AUTO_TEST_CASE(who_has_nothing_to_send_again_keeps_nobody_waiting) {
  World world;
  world.write(0, "a");
  BOOST_TEST((world.sync() == Code::ok));
  world.volume->deferred = true;
  world.write(0, "b");
  world.flush();
  world.volume->restart(world.volume->log.durable);
  auto resending = std::make_shared<int>(1);
  const std::weak_ptr<int> kept = resending;
  world.file->owner_restarted(std::move(resending));
  BOOST_TEST(kept.expired());
  BOOST_TEST(world.volume->step());
}

BOOST_AUTO_TEST_CASE(appends_go_where_the_owners_end_is) {
  World world;
  world.volume->content = to_bytes(view("theirs|"));
  world.write(0, "T");
  uint64_t at = 0;
  const auto append = [&](bool in_pages) {
    world.file->append({}, to_bytes(view("ours")), false, in_pages, {},
                       [&](Code, uint64_t offset) { at = offset; });
  };
  append(true);
  BOOST_TEST(at == 7u);
  BOOST_TEST(text(world.volume->content) == "Theirs|ours");
  BOOST_TEST(!world.file->opened(world.volume->attributes(), 0));
  append(true);
  BOOST_TEST(world.file->opened(world.volume->attributes(), 0));
  append(false);
  BOOST_TEST(!world.file->opened(world.volume->attributes(), 0));  // the kernel's pages lack these bytes
}

BOOST_AUTO_TEST_CASE(too_much_makes_the_writer_wait) {
  World world;
  world.volume->deferred = true;
  const std::string half(kPieceBytes / 2, 'x');  // no piece is ever whole
  Code result = Code::ok;
  for (uint64_t offset = 0; result == Code::ok && offset < 4 * kDirtyFileBytes; offset += kPieceBytes)
    result = world.write(offset, half);
  BOOST_TEST((result == Code::cancelled));
  BOOST_TEST(world.context.dirty_bytes.load() <= kDirtyFileBytes + kPieceBytes);
  BOOST_TEST(world.volume->queue.size() == kWritesInFlight);
  while (world.volume->step()) continue;
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(who_waits_for_room_goes_on_when_half_is_written) {
  World world;
  world.volume->deferred = true;
  const Bytes piece(kPieceBytes, 'x');
  Code last = Code::ok;
  for (uint64_t offset = 0; last == Code::ok; offset += kPieceBytes) {
    last = Code::cancelled;
    world.file->write({}, offset, piece, OpenFile::Mode::buffered, [&](Code code) { last = code; });
  }
  BOOST_TEST(world.context.dirty_bytes.load() == kDirtyFileBytes + kPieceBytes);
  while (last == Code::cancelled && world.volume->step()) continue;
  BOOST_TEST((last == Code::ok));
  BOOST_TEST(world.context.dirty_bytes.load() == kDirtyFileBytes / 2);
  while (world.volume->step()) continue;
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
}

// Many programs may: nobody is told that an owner which is only slow is away.
BOOST_AUTO_TEST_CASE(who_writes_when_the_mount_is_full_waits_for_what_its_file_holds) {
  World world;
  world.context.dirty_bytes = kDirtyHardBytes + 1;  // others'
  world.context.unreachable_timeout_ns = kMinute;
  world.volume->deferred = true;
  Code first = Code::cancelled, second = Code::cancelled;
  const auto write = [&](uint64_t offset, std::string_view bytes, Code& code) {
    world.file->write({}, offset, view(bytes), OpenFile::Mode::buffered, [&](Code result) { code = result; });
  };
  write(0, "old", first);
  write(0, "new", second);
  BOOST_TEST((first == Code::cancelled));
  BOOST_TEST((second == Code::cancelled));
  BOOST_TEST(world.context.dirty_bytes.load() == kDirtyHardBytes + 4);  // one write a file, and no more
  world.volume->step();
  BOOST_TEST((first == Code::ok));
  BOOST_TEST((second == Code::cancelled));
  world.volume->step();
  BOOST_TEST((second == Code::ok));
  BOOST_TEST(text(world.volume->content) == "new");
  // Of an owner that is away it holds no more than that.
  world.context.unreachable_timeout_ns = -1;
  world.volume->deferred = false;
  world.volume->down = true;
  write(0, "1", first);
  write(1, "2", second);
  BOOST_TEST((first == Code::unreachable));
  BOOST_TEST((second == Code::unreachable));
  BOOST_TEST(world.context.dirty_bytes.load() == kDirtyHardBytes + 2);
}

BOOST_AUTO_TEST_CASE(bytes_are_sent_when_they_are_of_age_whatever_else_is_waited_for) {
  World world;
  world.file->append({}, to_bytes(view("kept for a while")), false, true, {}, [](Code, uint64_t) {});
  world.write(0, "K");
  world.clock.now += kDirtyAge + Background::kGrain;
  world.background.after(-kMinute, [] {});  // it looks at its clock
  for (int i = 0; i < 2000 && world.context.dirty_bytes.load() != 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(who_waits_is_told_that_the_mount_ends) {
  World world;
  world.context.unreachable_timeout_ns = 0;
  world.write(5, "kept");
  BOOST_TEST((world.flush() == Code::ok));
  world.volume->deferred = true;
  world.write(0, "never");
  Code code = Code::cancelled;
  world.file->flush([&](Code result) { code = result; });
  world.write(2, "buffered");
  BOOST_TEST((code == Code::cancelled));
  world.file->end();
  BOOST_TEST((code == Code::closed));
  BOOST_TEST((world.flush() == Code::closed));
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
  BOOST_TEST(world.context.kept_bytes.load() == 0u);
  world.volume->step();  // an answer that was on its way
  BOOST_TEST(!world.volume->step());
  BOOST_TEST(world.context.dirty_bytes.load() == 0u);
}

BOOST_AUTO_TEST_CASE(attributes_never_go_back) {
  World world;
  const Attributes old = world.volume->attributes();
  world.write(0, "12345");
  BOOST_TEST((world.flush() == Code::ok));
  BOOST_TEST(world.file->seen(old).size == 5u);  // an answer that was overtaken
  BOOST_TEST(world.file->seen(world.volume->attributes()).size == 5u);
  Attributes other = world.volume->attributes();
  other.change += 1;
  other.size = 3;
  BOOST_TEST(world.file->seen(other).size == 3u);
  BOOST_TEST(world.file->pages_version() == 0u);
}

BOOST_AUTO_TEST_CASE(pages_stay_when_nobody_else_changed_the_file) {
  World world;
  BOOST_TEST(!world.file->opened(world.volume->attributes(), 0));
  BOOST_TEST(world.file->pages_version() == 0u);  // the kernel may have others still
  world.file->settle(world.file->doubt());
  world.write(0, "mine");
  BOOST_TEST((world.flush() == Code::ok));
  const uint64_t version = world.file->pages_version();
  BOOST_TEST(version == world.volume->change);
  auto again = std::make_shared<OpenFile>(world.context, world.volume, 9);
  BOOST_TEST(again->opened(world.volume->attributes(), version));
  ++world.volume->change;
  auto third = std::make_shared<OpenFile>(world.context, world.volume, 9);
  BOOST_TEST(!third->opened(world.volume->attributes(), version));
}

BOOST_AUTO_TEST_CASE(pages_stay_when_an_open_meets_own_writes_on_their_way) {
  World world;
  BOOST_TEST(!world.file->opened(world.volume->attributes(), 0));
  world.volume->deferred = true;
  world.write(0, "mine");
  world.flush();
  BOOST_REQUIRE(world.volume->queue.size() == 1u);
  Attributes answered = world.volume->attributes();
  BOOST_TEST(world.file->opened(answered, 0));
  answered.change += 1;  // it has come there
  BOOST_TEST(world.file->opened(answered, 0));
  answered.change += 1;  // and something of others
  BOOST_TEST(!world.file->opened(answered, 0));
}

BOOST_AUTO_TEST_CASE(an_open_that_drops_pages_is_doubted_until_it_has) {
  World world;
  BOOST_TEST(!world.file->opened(world.volume->attributes(), 0));
  const uint64_t first = world.file->doubt();
  BOOST_TEST(first != 0u);
  BOOST_TEST(world.file->opened(world.volume->attributes(), 0));
  BOOST_TEST(world.file->doubt() == first);
  ++world.volume->change;  // others
  BOOST_TEST(!world.file->opened(world.volume->attributes(), 0));
  world.file->settle(first);  // what came later is in doubt still
  BOOST_TEST(world.file->doubt() != 0u);
  world.file->settle(world.file->doubt());
  BOOST_TEST(world.file->doubt() == 0u);
}

BOOST_AUTO_TEST_CASE(a_read_that_was_queued_after_a_write_and_served_before_is_noticed) {
  World world;
  BOOST_TEST(!world.file->was_overtaken(10, 0, 4096));
  world.file->kernel_reads(12, 4096, 8192);
  BOOST_TEST(world.file->was_overtaken(10, 0, 4097));
  BOOST_TEST(world.file->was_overtaken(10, 12287, 1));
  BOOST_TEST(!world.file->was_overtaken(10, 0, 4096));
  BOOST_TEST(!world.file->was_overtaken(10, 12288, 4096));
  BOOST_TEST(!world.file->was_overtaken(14, 4096, 4096));  // the read came first
  for (uint64_t i = 0; i < 16; ++i) world.file->kernel_reads(20 + i, 0, 1);
  BOOST_TEST(world.file->was_overtaken(10, uint64_t(1) << 20, 1));  // too many to know where they were
  BOOST_TEST(!world.file->was_overtaken(14, uint64_t(1) << 20, 1));
}

BOOST_AUTO_TEST_CASE(sequential_reading_is_fetched_ahead_and_dropped_at_a_write) {
  World world;
  world.volume->content.resize(12 * kPieceBytes + 77);
  for (size_t i = 0; i < world.volume->content.size(); ++i) world.volume->content[i] = uint8_t(i * 31 >> 7);
  world.file->opened(world.volume->attributes(), 0);
  std::string all;
  while (true) {
    std::string part = world.read(all.size(), 128 << 10);
    if (part.empty()) break;
    all += part;
    if (all.size() == 5 * kPieceBytes) {
      BOOST_TEST(world.asked<Read>() < 12u);  // of up to 40
      world.volume->content[6 * kPieceBytes] ^= 0xff;
      world.write(7 * kPieceBytes, "W");
      BOOST_TEST((world.flush() == Code::ok));
    }
  }
  BOOST_TEST(all.size() == world.volume->content.size());
  BOOST_TEST((all == text(world.volume->content)));  // nothing read ahead outlived the write
  BOOST_TEST(world.asked<Read>() < 30u);
}

// Random writes, reads, truncations, syncs and outages, with answers in any order: what is read is always
// what was written, and what fsync promised is there.
BOOST_AUTO_TEST_CASE(behaves_as_a_plain_file) {
  const int rounds = std::getenv("EFS_LONG") ? 2000 : 40;
  for (int seed = 1; seed <= rounds; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      std::mt19937_64 random{uint64_t(seed)};
      World world;
      world.volume->deferred = true;
      Bytes model;
      auto drain = [&] {
        for (int i = 0; i < 10000 && !world.volume->queue.empty(); ++i) world.volume->step(random());
      };
      for (int step = 0; step < 150; ++step) {
        const uint64_t offset = random() % 5000 + (random() % 8 == 0 ? kPieceBytes - 2500 : 0);
        const size_t length = 1 + random() % 900;
        switch (random() % 12) {
          case 0: {
            BOOST_TEST((world.flush() != Code::io));
            drain();
            BOOST_TEST((model == world.volume->content));
            break;
          }
          case 1: {  // truncate, as a mount does it: after what was written
            world.flush();
            drain();
            world.volume->content.resize(std::min(model.size(), size_t(offset)));
            model = world.volume->durable = world.volume->content;
            ++world.volume->change;
            world.volume->log.durable = ++world.volume->logged;
            world.changed_here();
            world.file->forget_written(model.size(), UINT64_MAX);
            break;
          }
          case 2: {
            const bool down = random() % 2 == 0;
            const bool restarted = random() % 2 == 0;
            world.volume->down = down;
            if (restarted) drain(), world.volume->lose_power();
            Code code = Code::cancelled;
            world.file->sync({}, [&](Code result) { code = result; });
            drain();
            world.volume->down = false;
            if (!down) {
              BOOST_TEST((code == Code::ok));
              BOOST_TEST((world.volume->durable == model));
            } else {
              BOOST_TEST((code == Code::unreachable || code == Code::ok));
              world.file->sync({}, [](Code) {});
              drain();
            }
            break;
          }
          case 3:
            for (size_t i = random() % 4; i > 0; --i) world.volume->step(random());
            break;
          case 4:
          case 5:
          case 6: {
            Bytes found;
            Code code = Code::cancelled;
            world.file->read({}, offset, uint32_t(length), {}, [&](Code result, const ReadBytes& bytes) {
              code = result;
              found = bytes.joined();
            });
            drain();
            BOOST_TEST((code == Code::ok));
            const size_t from = std::min<size_t>(offset, model.size());
            const size_t to = std::min<size_t>(offset + length, model.size());
            const Bytes expected(model.begin() + ptrdiff_t(from), model.begin() + ptrdiff_t(to));
            BOOST_REQUIRE_MESSAGE(found == expected, "seed " << seed << " step " << step);
            break;
          }
          default: {
            const Bytes data(length, uint8_t(random()));
            model.resize(std::max<size_t>(model.size(), offset + length));
            std::copy(data.begin(), data.end(), model.begin() + ptrdiff_t(offset));
            world.file->write({}, offset, data, OpenFile::Mode::buffered, [](Code) {});
          }
        }
      }
      BOOST_TEST(world.volume->ordered);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
