// What files hold, and their attributes: sizes, holes, allocation, times, permissions, xattrs.
#include <boost/test/unit_test.hpp>

#include "map_rows.h"

using namespace efs;
using namespace efs::test;

namespace {
constexpr uint32_t kFile = 0100644;

SetAttributes size_of(InodeNumber inode, uint64_t size) {
  SetAttributes set;
  set.inode = inode;
  set.size = size;
  return set;
}
}  // namespace

BOOST_AUTO_TEST_SUITE(content)

BOOST_AUTO_TEST_CASE(small_files_live_in_their_inode) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  BOOST_TEST(volume.write(file, 0, "hello").attributes.size == 5u);
  BOOST_TEST(volume.chunks.empty());
  volume.write(file, 10, "x");
  BOOST_TEST(volume.content(file) == std::string("hello\0\0\0\0\0x", 11));
  BOOST_TEST(volume.usage().bytes == 11u);
  BOOST_TEST(volume.attributes(file).blocks == 8u);
  volume.write(file, 2040, std::string(20, 'y'));
  BOOST_TEST(volume.chunks.size() == 2u);
  BOOST_TEST(volume.content(file) ==
             std::string("hello\0\0\0\0\0x", 11) + std::string(2029, '\0') + std::string(20, 'y'));
  BOOST_TEST(volume.usage().bytes == 31u);
}

BOOST_AUTO_TEST_CASE(attributes_that_come_with_bytes_are_one_change) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  const auto before = volume.attributes(file);
  WriteExtents write;
  write.inode = file;
  write.bytes = to_bytes(view("hello"));
  write.attributes.emplace();
  write.attributes->inode = file;
  write.attributes->mode = 0640;
  write.attributes->mtime_ns = 12;
  BOOST_TEST((volume.run(write).code == Code::ok));
  const auto after = volume.attributes(file);
  BOOST_TEST(after.change == before.change + 1);
  BOOST_TEST(after.mode == 0100640u);
  BOOST_TEST(after.mtime_ns == 12);
  BOOST_TEST(volume.content(file) == "hello");
  write.attributes->size = 0;
  BOOST_TEST((volume.run(write).code == Code::invalid_argument));
  write.attributes->size.reset();
  write.attributes->inode = kRootInode;
  BOOST_TEST((volume.run(write).code == Code::invalid_argument));
  BOOST_TEST(volume.attributes(file).change == after.change);
}

BOOST_AUTO_TEST_CASE(equal_chunks_are_stored_once) {
  TestVolume volume;
  auto one = volume.make(kRootInode, "1", kFile);
  auto two = volume.make(kRootInode, "2", kFile);
  volume.write(one, 0, std::string(10000, 'x'));
  volume.write(two, 0, std::string(10000, 'x'));
  BOOST_TEST(volume.chunks.size() == 1u);
  BOOST_TEST(volume.usage().stored_bytes == 10000u);
  BOOST_TEST(volume.usage().bytes == 20000u);
  volume.run(Unlink{kRootInode, "1", false});
  BOOST_TEST(volume.usage().stored_bytes == 10000u);
  const Id chunk = volume.chunks.begin()->first;
  volume.run(FreeChunks{{chunk}});
  BOOST_TEST(volume.chunks.size() == 1u);
  volume.run(Unlink{kRootInode, "2", false});
  BOOST_TEST(volume.usage().stored_bytes == 0u);
  // Named again before it was freed: it stays.
  auto three = volume.make(kRootInode, "3", kFile);
  volume.write(three, 0, std::string(10000, 'x'));
  volume.run(FreeChunks{{chunk}});
  BOOST_TEST(volume.content(three).size() == 10000u);
  volume.run(Unlink{kRootInode, "3", false});
  volume.run(FreeChunks{{chunk}});
  BOOST_TEST(volume.chunks.empty());
}

BOOST_AUTO_TEST_CASE(scattered_pieces_share_a_chunk) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  ScatteredExtents write;
  write.inode = file;
  write.pieces = {{3, 2}, {100, 3}};
  write.bytes = to_bytes(view("aabbb"));
  BOOST_TEST(volume.run(write).attributes.size == 103u);
  BOOST_TEST(volume.chunks.empty());  // in the inode
  std::string expected = std::string(3, '\0') + "aa" + std::string(95, '\0') + "bbb";
  BOOST_TEST(volume.content(file) == expected);

  write.pieces = {{0, 4096}, {100'000, 4096}, {200'000, 1000}};
  write.bytes = Bytes(9192, 'x');
  std::fill_n(write.bytes.begin() + 8192, 1000, uint8_t('y'));
  const auto before = volume.attributes(file);
  const auto reply = volume.run(write);
  BOOST_TEST(reply.attributes.size == 201'000u);
  BOOST_TEST(reply.attributes.change == before.change + 1);
  BOOST_TEST(volume.usage().bytes == 9192u);
  BOOST_TEST(volume.content(file) == std::string(4096, 'x') + std::string(95'904, '\0') +
                                         std::string(4096, 'x') + std::string(95'904, '\0') +
                                         std::string(1000, 'y'));
  const auto layout = volume.ask(Layout{file});
  BOOST_REQUIRE_EQUAL(layout.extents.size(), 3u);
  BOOST_TEST(layout.extents[0].chunk == layout.extents[2].chunk);
  // The chunk goes with the last of them.
  volume.run(FreeChunks{{volume.chunks.begin()->first}});
  Allocate punch;
  punch.inode = file;
  punch.length = 200'000;
  punch.punch = punch.keep_size = true;
  volume.run(punch);
  BOOST_TEST(volume.usage().stored_bytes == 9192u);
  volume.run(size_of(file, 100));
  BOOST_TEST(volume.usage().stored_bytes == 0u);
  BOOST_TEST(volume.usage().bytes == 0u);

  // What a peer may not send.
  auto refused = [&](std::vector<WritePiece> pieces, size_t bytes) {
    write.pieces = std::move(pieces);
    write.bytes.resize(bytes);
    return volume.run(write).code;
  };
  BOOST_TEST(refused({}, 0) == Code::invalid_argument);
  BOOST_TEST(refused({}, 5) == Code::invalid_argument);
  BOOST_TEST(refused({{0, 5}}, 0) == Code::invalid_argument);
  BOOST_TEST(refused({{0, 5}}, 6) == Code::invalid_argument);
  BOOST_TEST(refused({{0, 5}, {4, 1}}, 6) == Code::invalid_argument);
  BOOST_TEST(refused({{9, 5}, {0, 1}}, 6) == Code::invalid_argument);
  BOOST_TEST(refused({{9, 5}, {20, 0}}, 5) == Code::invalid_argument);
  BOOST_TEST(refused({{0, UINT32_MAX}, {UINT32_MAX, 6}}, 5) == Code::invalid_argument);
  BOOST_TEST(refused({{kMaxFileSize - 2, 5}}, 5) == Code::too_large);
  BOOST_TEST(refused({{UINT64_MAX, 5}}, 5) == Code::too_large);
  BOOST_TEST(refused(std::vector<WritePiece>(kWritePieces + 1, {0, 1}), kWritePieces + 1) ==
             Code::invalid_argument);
  write.pieces = {{0, 5}};
  write.bytes.resize(5);
  BOOST_TEST(volume.run(write, user(5)).code == Code::access_denied);
  write.inode = kRootInode;
  BOOST_TEST(volume.run(write).code == Code::is_directory);
}

BOOST_AUTO_TEST_CASE(holes_truncation_and_allocation) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  volume.write(file, 1 << 30, std::string(8192, 'x'));
  BOOST_TEST(volume.attributes(file).blocks == 16u);
  BOOST_TEST(volume.ask(SeekData{file, 0, false}).offset == uint64_t(1 << 30));
  BOOST_TEST(volume.ask(SeekData{file, 0, true}).offset == 0u);
  BOOST_TEST(volume.ask(SeekData{file, 1 << 30, true}).offset == uint64_t(1 << 30) + 8192);
  BOOST_TEST(volume.ask(SeekData{file, (1 << 30) + 8192, false}).code == Code::no_device);
  volume.run(size_of(file, (1 << 30) + 100));
  BOOST_TEST(volume.usage().bytes == 100u);
  volume.run(size_of(file, (1 << 30) + 200));
  BOOST_TEST(volume.usage().bytes == 100u);
  BOOST_TEST(volume.ask(SeekData{file, (1 << 30) + 100, false}).offset ==
             uint64_t(1 << 30) + 100);  // a block
  BOOST_TEST(volume.ask(SeekData{file, (1 << 30) + 200, false}).code == Code::no_device);
  Allocate allocate;
  allocate.inode = file;
  allocate.offset = (1 << 30) - 4096;
  allocate.length = 8192;
  allocate.keep_size = true;
  volume.run(allocate);
  BOOST_TEST(volume.usage().bytes == 8192u);
  BOOST_TEST(volume.attributes(file).size == uint64_t(1 << 30) + 200);
  allocate.keep_size = false;
  volume.run(allocate);
  BOOST_TEST(volume.attributes(file).size == uint64_t(1 << 30) + 4096);
  allocate.punch = allocate.keep_size = true;
  allocate.offset = (1 << 30) + 50;
  allocate.length = 10;
  volume.run(allocate);
  BOOST_TEST(volume.usage().bytes == 8182u);
  allocate.keep_size = false;
  BOOST_TEST(volume.run(allocate).code == Code::unsupported);
  allocate.length = 0;
  BOOST_TEST(volume.run(allocate).code == Code::invalid_argument);
  BOOST_TEST(volume.run(size_of(file, uint64_t(INT64_MAX) + 1)).code == Code::too_large);
  BOOST_TEST(volume.run(size_of(kRootInode, 0)).code == Code::is_directory);
  volume.run(size_of(file, 0));
  BOOST_TEST(volume.usage().bytes == 0u);
  BOOST_TEST(volume.usage().stored_bytes == 0u);
}

// As ext4 with blocks of 4 KiB.
BOOST_AUTO_TEST_CASE(data_and_holes_are_whole_blocks) {
  TestVolume volume;
  const auto seek = [&](InodeNumber file, uint64_t offset, bool hole) {
    const Reply reply = volume.ask(SeekData{file, offset, hole});
    return reply.code == Code::ok ? int64_t(reply.offset) : -1;
  };
  auto file = volume.make(kRootInode, "f", kFile);
  volume.run(size_of(file, 30 * 4096));
  volume.write(file, 30 * 4096 - 128, std::string(12, 'x'));
  BOOST_TEST(seek(file, 30 * 4096 - 128, true) == 30 * 4096);
  BOOST_TEST(seek(file, 0, false) == 29 * 4096);
  BOOST_TEST(seek(file, 30 * 4096 - 1, false) == 30 * 4096 - 1);
  BOOST_TEST(seek(file, 29 * 4096 - 1, true) == 29 * 4096 - 1);
  volume.write(file, 28 * 4096 + 5, "y");  // two that touch are one
  BOOST_TEST(seek(file, 28 * 4096 + 100, true) == 30 * 4096);
  // Small content, too.
  auto small = volume.make(kRootInode, "s", kFile);
  volume.write(small, 0, "abc");
  volume.run(size_of(small, 10'000));
  BOOST_TEST(seek(small, 0, true) == 4096);
  BOOST_TEST(seek(small, 4000, false) == 4000);
  BOOST_TEST(seek(small, 4096, false) == -1);
  // What was only allocated is a hole until it is written.
  auto allocated = volume.make(kRootInode, "a", kFile);
  Allocate allocate;
  allocate.inode = allocated;
  allocate.length = 11 * 4096;
  volume.run(allocate);
  BOOST_TEST(seek(allocated, 0, false) == -1);
  BOOST_TEST(seek(allocated, 100, true) == 100);
  volume.write(allocated, 10 * 4096, std::string(4096, 'x'));
  BOOST_TEST(seek(allocated, 0, false) == 10 * 4096);
  BOOST_TEST(seek(allocated, 10 * 4096, true) == 11 * 4096);
}

BOOST_AUTO_TEST_CASE(whole_blocks_are_allocated_and_punched) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  Allocate allocate;
  allocate.inode = file;
  allocate.offset = 4095;
  allocate.length = 2;
  volume.run(allocate);
  BOOST_TEST(volume.attributes(file).size == 4097u);
  BOOST_TEST(volume.attributes(file).blocks == 16u);
  volume.write(file, 4095, "xy");
  BOOST_TEST(volume.attributes(file).blocks == 16u);
  allocate.offset = kMaxFileSize - 10;
  allocate.length = 10;
  BOOST_TEST(volume.run(allocate).code == Code::ok);
  // Small content behind a hole's beginning is no data any more.
  auto small = volume.make(kRootInode, "s", kFile);
  volume.write(small, 0, std::string(1000, 's'));
  Allocate punch;
  punch.inode = small;
  punch.punch = punch.keep_size = true;
  punch.offset = 10;
  punch.length = 20;
  volume.run(punch);
  BOOST_TEST(volume.content(small) == std::string(10, 's') + std::string(20, '\0') + std::string(970, 's'));
  punch.offset = 500;
  punch.length = 4096;
  volume.run(punch);
  BOOST_TEST(volume.content(small).substr(499) == 's' + std::string(500, '\0'));
  punch.offset = 0;
  volume.run(punch);
  BOOST_TEST(volume.content(small) == std::string(1000, '\0'));
  BOOST_TEST(volume.attributes(small).blocks == 0u);
  BOOST_TEST(volume.ask(SeekData{small, 0, false}).code == Code::no_device);
  volume.run(size_of(file, 0));
  BOOST_TEST(volume.usage().bytes == 0u);
}

BOOST_AUTO_TEST_CASE(a_write_brings_a_time_back_that_was_set_into_the_future) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  SetAttributes set;
  set.inode = file;
  set.mtime_ns = volume.now_ns + kHour;
  volume.run(set);
  WriteExtents write;
  write.inode = file;
  write.bytes = {'a'};
  const int64_t written_ns = write.mtime_ns = volume.now_ns + kMillisecond;
  BOOST_TEST(volume.run(write).attributes.mtime_ns == written_ns);
  write.mtime_ns -= 1000;  // one that comes out of order sets nothing back
  BOOST_TEST(volume.run(write).attributes.mtime_ns == written_ns);
}

BOOST_AUTO_TEST_CASE(appends_go_to_the_end) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  WriteExtents write;
  write.inode = file;
  write.append = true;
  write.offset = 77;
  write.bytes = {'a', 'b'};
  BOOST_TEST(volume.run(write).offset == 0u);
  BOOST_TEST(volume.run(write).offset == 2u);
  BOOST_TEST(volume.content(file) == "abab");
  write.mtime_ns = 5;
  auto before = volume.attributes(file).mtime_ns;
  BOOST_TEST(volume.run(write).attributes.mtime_ns == before);
  BOOST_TEST(volume.attributes(file).ctime_ns == volume.now_ns);
  // What was written a while ago has changed then; but not before this run of the owner.
  const int64_t written_ns = write.mtime_ns = volume.now_ns += 1000;
  volume.now_ns += 1000;
  BOOST_TEST(volume.run(write).attributes.ctime_ns == written_ns);
  Operation late;
  late.run_ns = write.mtime_ns = volume.now_ns += 1000;
  late.body = write;
  BOOST_TEST(volume.run(late).attributes.ctime_ns == late.run_ns);
  volume.now_ns += 1000;
  late.run_ns += 500;
  std::get<WriteExtents>(late.body).mtime_ns = late.run_ns - 1;
  BOOST_TEST(volume.run(late).attributes.ctime_ns == late.run_ns);
  BOOST_TEST(volume.attributes(file).mtime_ns == late.run_ns - 1);
  const auto state = read_state(volume.rows);
  BOOST_TEST(state->run_ns == late.run_ns);
  const std::string row = state->encode();
  const auto older = StateRow::decode(row.substr(0, row.size() - sizeof(late.run_ns)));
  BOOST_REQUIRE(older);
  BOOST_TEST(older->run_ns == 0);
  BOOST_TEST(older->register_entries == state->register_entries);
  write.bytes.clear();
  BOOST_TEST(volume.run(write).code == Code::invalid_argument);
}

BOOST_AUTO_TEST_CASE(deleting_a_file_of_many_extents_takes_steps) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile);
  for (uint64_t i = 0; i < kExtentsPerStep + 10; ++i)
    volume.write(file, i * 10000, i == 0 ? std::string(3000, 'x') : "y" + std::to_string(i));
  volume.run(Unlink{kRootInode, "f", false});
  BOOST_TEST(volume.usage().bytes == 0u);
  BOOST_TEST(volume.usage().stored_bytes > 0u);
  volume.run(ReclaimExtents{});
  BOOST_TEST(volume.usage().stored_bytes == 0u);
  for (auto& [key, value] : volume.rows.rows) BOOST_TEST((key.first != kExtents && key.first != kReclaim));
}

BOOST_AUTO_TEST_CASE(permissions_of_content) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", 0100640, user(5));
  BOOST_TEST(volume.write(file, 0, "x", user(6)).code == Code::access_denied);
  BOOST_TEST(volume.ask(Read{file, 0, 10}, user(6)).code == Code::access_denied);
  BOOST_TEST(volume.ask(Read{file, 0, 10}, user(6, {5})).code == Code::ok);
  BOOST_TEST(volume.ask(Read{file, 0, 10}, user(6), true).code == Code::ok);
  BOOST_TEST(volume.run(size_of(file, 9), user(6)).code == Code::access_denied);
  auto handle = size_of(file, 9);
  handle.has_write_handle = true;
  BOOST_TEST(volume.run(handle, user(6)).code == Code::ok);
}

BOOST_AUTO_TEST_CASE(setgid_that_the_group_may_not_execute_is_kept_by_who_is_in_it) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile, user(5, {77}));
  SetAttributes group;
  group.inode = file;
  group.gid = 77;
  volume.run(group, user(5, {77}));
  SetAttributes mode, clear, nothing;
  mode.inode = clear.inode = nothing.inode = file;
  mode.mode = 06666;
  clear.clear_suid = true;
  const auto cleared = [&](const SetAttributes& request, const Credentials& who) {
    BOOST_TEST(volume.run(mode, user(0)).code == Code::ok);
    return volume.run(request, who);
  };
  BOOST_TEST(cleared(clear, user(6)).attributes.mode == 0100666u);
  BOOST_TEST(cleared(clear, user(6, {77})).attributes.mode == 0102666u);
  auto unknown = user(6);
  unknown.groups_known = false;  // asked again with them
  BOOST_TEST(cleared(clear, unknown).code == Code::not_permitted);
  BOOST_TEST(volume.attributes(file).mode == 0106666u);
  BOOST_TEST(cleared(nothing, user(6)).attributes.mode ==
             0106666u);  // chown(-1, -1), of who is not the owner
  BOOST_TEST(cleared(nothing, user(5)).attributes.mode == 0100666u);
}

BOOST_AUTO_TEST_CASE(capabilities_go_with_setuid) {
  TestVolume volume;
  const auto file = volume.make(kRootInode, "f", kFile, user(5));
  const SetXattr give{file, "security.capability", {1}};
  const RemoveXattr take{file, "security.capability"};
  const auto has = [&] { return volume.ask(GetXattr{file, "security.capability"}).code == Code::ok; };
  const auto given = [&](const auto& request, const Credentials& who) {
    BOOST_TEST(volume.run(give, user(0)).code == Code::ok);
    BOOST_TEST(has());
    return volume.run(request, who).code;
  };
  WriteExtents write;
  write.inode = file;
  write.bytes = {1};
  BOOST_TEST(given(write, user(5)) == Code::ok);
  BOOST_TEST(has());  // its mount took it away before, if it was to
  write.clear_suid = true;
  BOOST_TEST(given(write, user(5)) == Code::ok);
  BOOST_TEST(!has());
  BOOST_TEST(volume.attributes(file).xattr_bytes == 0u);
  SetAttributes own;
  own.inode = file;
  own.uid = 5;
  BOOST_TEST(given(own, user(0)) == Code::ok);
  BOOST_TEST(!has());
  // Whoever may write or give it away may take it away; nobody else, and nobody but root gives it.
  BOOST_TEST(given(take, user(5)) == Code::ok);
  BOOST_TEST(!has());
  BOOST_TEST(given(take, user(6)) == Code::not_permitted);
  BOOST_TEST(has());
  BOOST_TEST(volume.run(give, user(5)).code == Code::not_permitted);
  BOOST_TEST(volume.run(RemoveXattr{file, "security.other"}, user(5)).code == Code::not_permitted);
}

BOOST_AUTO_TEST_CASE(chmod_chown_utimens) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile, user(5));
  SetAttributes set;
  set.inode = file;
  set.mode = 06755;
  BOOST_TEST(volume.run(set, user(6)).code == Code::not_permitted);
  BOOST_TEST(volume.run(set, user(5)).attributes.mode == 0106755u);
  SetAttributes own;
  own.inode = file;
  own.uid = 6;
  BOOST_TEST(volume.run(own, user(5)).code == Code::not_permitted);
  own.uid.reset();
  own.gid = 77;
  BOOST_TEST(volume.run(own, user(5)).code == Code::not_permitted);
  BOOST_TEST(volume.run(own, user(5, {77})).attributes.mode == 0100755u);
  BOOST_TEST(volume.run(set, user(5)).attributes.mode == 0104755u);
  auto unknown = user(5);
  unknown.groups_known = false;
  BOOST_TEST(volume.run(set, unknown).code == Code::not_permitted);
  WriteExtents write;
  write.inode = file;
  write.bytes = {1};
  write.clear_suid = true;
  BOOST_TEST(volume.run(write, user(5)).attributes.mode == 0100755u);
  SetAttributes times;
  times.inode = file;
  times.mtime_ns = 1234567890123456789;
  BOOST_TEST(volume.run(times, user(6)).code == Code::not_permitted);
  BOOST_TEST(volume.run(times, user(5)).attributes.mtime_ns == 1234567890123456789);
  SetAttributes now;
  now.inode = file;
  now.atime_now = now.mtime_now = true;
  BOOST_TEST(volume.run(now, user(6)).code == Code::access_denied);
  BOOST_TEST(volume.run(now, user(5)).attributes.mtime_ns == volume.now_ns);
}

BOOST_AUTO_TEST_CASE(xattrs) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", kFile, user(5));
  SetXattr set;
  set.inode = file;
  set.name = "user.a";
  set.value = {1, 2, 3};
  set.replace = true;
  BOOST_TEST(volume.run(set).code == Code::no_attribute);
  set.replace = false;
  set.create = true;
  BOOST_TEST(volume.run(set, user(6)).code == Code::access_denied);
  BOOST_TEST(volume.run(set, user(5)).code == Code::ok);
  BOOST_TEST(volume.run(set).code == Code::exists);
  BOOST_TEST(volume.ask(GetXattr{file, "user.a"}).text == "\1\2\3");
  BOOST_TEST(volume.ask(GetXattr{file, "user.b"}).code == Code::no_attribute);
  set.create = false;
  set.name = "trusted.x";
  BOOST_TEST(volume.run(set, user(5)).code == Code::not_permitted);
  BOOST_TEST(volume.run(set).code == Code::ok);
  BOOST_TEST(volume.ask(ListXattrs{file}).names.size() == 2u);
  BOOST_TEST(volume.ask(ListXattrs{file}, user(5)).names.size() == 1u);
  set.name = "other.x";
  BOOST_TEST(volume.run(set).code == Code::unsupported);
  set.name = "user.big";
  set.value = Bytes(kMaxXattrValue + 1);
  BOOST_TEST(volume.run(set).code == Code::range);
  set.value = Bytes(10);
  set.name = "user." + std::string(251, 'x');
  BOOST_TEST(volume.run(set).code == Code::range);
  Code last = Code::ok;
  for (int i = 0; i < 400 && last == Code::ok; ++i) {
    set.name = "user." + std::string(200, 'x') + std::to_string(i);
    last = volume.run(set).code;
  }
  BOOST_TEST(last == Code::no_space);
  BOOST_TEST(volume.run(RemoveXattr{file, "user.a"}).code == Code::ok);
  BOOST_TEST(volume.run(RemoveXattr{file, "user.a"}).code == Code::no_attribute);
  volume.run(Unlink{kRootInode, "f", false});
  for (auto& [key, value] : volume.rows.rows) BOOST_TEST(key.first != kXattrs);
}

BOOST_AUTO_TEST_CASE(inode_numbers_come_from_what_was_reserved) {
  TestVolume volume;
  auto first = volume.make(kRootInode, "a", kFile);
  volume.run(ReserveInodes{kInodeBlock * 3, true});
  auto second = volume.make(kRootInode, "b", kFile);
  BOOST_TEST(second == kInodeBlock + 2);
  BOOST_TEST(first == 2u);
}

// copy_file_range(2): the same chunks, named twice.
BOOST_AUTO_TEST_CASE(copies_share_chunks) {
  TestVolume volume;
  auto from = volume.make(kRootInode, "from", kFile), to = volume.make(kRootInode, "to", kFile);
  std::string bytes(30'000, 'x');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(i * 7 + i / 256);
  volume.write(from, 0, bytes.substr(0, 20'000));
  volume.write(from, 25'000, bytes.substr(25'000));  // with a hole between
  bytes.replace(20'000, 5000, 5000, '\0');
  const uint64_t stored = volume.usage().stored_bytes;
  BOOST_TEST(volume.run(CopyRange{from, 100, to, 50, 1 << 20}).offset == 29'900u);
  BOOST_TEST(volume.content(to) == std::string(50, '\0') + bytes.substr(100));
  BOOST_TEST(volume.usage().stored_bytes == stored);
  BOOST_TEST(volume.usage().bytes == 25'000u + 24'900u);
  volume.run(size_of(from, 0));
  BOOST_TEST(volume.content(to) == std::string(50, '\0') + bytes.substr(100));
  // Within one file, over what is there; not onto itself.
  std::string model = volume.content(to);
  BOOST_TEST(volume.run(CopyRange{to, 0, to, 10'000, 5000}).offset == 5000u);
  model.replace(10'000, 5000, model.substr(0, 5000));
  BOOST_TEST(volume.content(to) == model);
  BOOST_TEST(volume.run(CopyRange{to, 0, to, 1000, 5000}).code == Code::invalid_argument);
  BOOST_TEST(volume.run(CopyRange{to, 50'000, to, 0, 10}).offset == 0u);  // behind the end
  BOOST_TEST(volume.run(CopyRange{to, 0, kRootInode, 0, 10}).code == Code::is_directory);
  BOOST_TEST(volume.run(CopyRange{kRootInode, 0, to, 0, 10}).code == Code::is_directory);
  BOOST_TEST(volume.run(CopyRange{to, 0, from, kMaxFileSize, 10}).code == Code::too_large);
  BOOST_TEST(volume.run(CopyRange{to, 0, from, 0, 10}, user(5)).code == Code::access_denied);
  volume.run(size_of(to, 0));
  BOOST_TEST(volume.usage().stored_bytes == 0u);
  BOOST_TEST(volume.usage().bytes == 0u);
}

BOOST_AUTO_TEST_CASE(copies_of_small_content_and_many_extents) {
  TestVolume volume;
  auto small = volume.make(kRootInode, "small", kFile), to = volume.make(kRootInode, "to", kFile);
  volume.write(small, 0, "0123456789");
  BOOST_TEST(volume.run(CopyRange{small, 2, to, 0, 5}).offset == 5u);
  BOOST_TEST(volume.run(CopyRange{small, 0, small, 10, 10}).offset == 10u);
  BOOST_TEST(volume.content(to) == "23456");
  BOOST_TEST(volume.content(small) == "01234567890123456789");
  auto many = volume.make(kRootInode, "many", kFile);
  for (size_t i = 0; i < kCopyExtents + 10; ++i) volume.write(many, 4096 * (i + 1), "x" + std::to_string(i));
  const auto first = volume.run(CopyRange{many, 0, to, 0, UINT32_MAX});
  BOOST_TEST(first.offset == 4096 * (kCopyExtents + 1));
  const auto rest = volume.run(CopyRange{many, first.offset, to, first.offset, UINT32_MAX});
  BOOST_TEST(first.offset + rest.offset == volume.attributes(many).size);
  BOOST_TEST(volume.content(to) == volume.content(many));
}

BOOST_AUTO_TEST_CASE(reading_marks_the_time_as_relatime_has_it) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", 0100600);
  const Attributes before = volume.attributes(file);
  volume.run(MarkAccess{file});
  const Attributes marked = volume.attributes(file);
  BOOST_TEST(marked.atime_ns > before.atime_ns);
  BOOST_TEST(marked.ctime_ns == before.ctime_ns);
  BOOST_TEST(marked.change == before.change);
  volume.run(MarkAccess{file});
  BOOST_TEST(volume.attributes(file).atime_ns == marked.atime_ns);
  volume.now_ns += int64_t(25) * 3600 * 1'000'000'000;
  volume.run(MarkAccess{file});
  BOOST_TEST(volume.attributes(file).atime_ns == volume.now_ns);
  volume.write(file, 0, "x");
  volume.run(MarkAccess{file});
  BOOST_TEST(volume.attributes(file).atime_ns == volume.now_ns);
  BOOST_TEST(volume.run(MarkAccess{file}, user(5)).code == Code::access_denied);
}

BOOST_AUTO_TEST_CASE(who_writes_clears_setuid) {
  TestVolume volume;
  auto file = volume.make(kRootInode, "f", 0106777);
  auto set = [&](uint32_t mode) {
    SetAttributes request;
    request.inode = file;
    request.mode = mode;
    return volume.run(request, user(5)).code;
  };
  BOOST_TEST(set(0700) == Code::not_permitted);
  BOOST_TEST(set(07777) == Code::not_permitted);
  BOOST_TEST(set(0777) == Code::ok);
  BOOST_TEST((volume.attributes(file).mode & 07777) == 0777u);
  SetAttributes closed;
  closed.inode = file;
  closed.mode = 04755;
  volume.run(closed);
  BOOST_TEST(set(0755) == Code::not_permitted);  // who may not write
}

BOOST_AUTO_TEST_SUITE_END()
