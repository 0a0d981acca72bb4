// Chunks that are stored compressed: every form and size reads exactly at any offset, what does not shrink is
// stored as it is, damage is noticed, and recovery, collecting and the accounts know their sizes.
#include "chunk_fixture.h"
#include "peer/store/packing.h"

namespace efs {
namespace {

using namespace test;

constexpr Compression kForms[] = {Compression::none, Compression::lz4, Compression::zstd};

Bytes text_bytes(unsigned seed, size_t size) {
  std::mt19937 random(seed);
  std::string out;
  while (out.size() < size) out += "line " + std::to_string(random() % 1000) + " of some text\n";
  out.resize(size);
  return to_bytes(view(out));
}
Bytes noise(unsigned seed, size_t size) {
  return Chunk(seed, size).bytes;
}
// Every other piece shrinks.
Bytes mixed(size_t size) {
  Bytes out = text_bytes(3, size);
  const Bytes other = noise(4, size);
  for (size_t at = kPieceBytes; at < size; at += 2 * kPieceBytes)
    std::copy_n(other.begin() + long(at), std::min<size_t>(kPieceBytes, size - at), out.begin() + long(at));
  return out;
}

struct Packed {
  Packed(Bytes content, Compression form) : chunk(0, 1), packed(pack(form, content)) {
    chunk.bytes = std::move(content);
    chunk.sum = sha256(chunk.bytes);
    chunk.key = {7, blake2b(chunk.sum)};
  }
  Chunk chunk;
  PackedBytes packed;
};
void put(ChunkStore& store, const Packed& one, Durability durability = Durability::by_log) {
  BOOST_REQUIRE(store.put(one.chunk.key, one.chunk.sum, {one.chunk.bytes, one.packed}, durability));
}

uint64_t used(const ChunkStore& store) {
  return store.usage()[0].used_bytes;
}
std::string marker(const Stores& stores) {
  std::ifstream file(stores.directory / "chunks/marker");
  std::string line;
  std::getline(file, line);
  return line;
}

BOOST_AUTO_TEST_SUITE(packed_chunks)

BOOST_AUTO_TEST_CASE(it_is_packed_where_it_helps) {
  for (const Compression form : {Compression::lz4, Compression::zstd}) {
    for (const size_t size :
         {size_t(4097), size_t(kPieceBytes), size_t(kPieceBytes) + 1, size_t(200000), kMaxChunkBytes}) {
      const PackedBytes packed = pack(form, text_bytes(1, size));
      BOOST_TEST((packed.form == form));
      BOOST_TEST(packed.lengths.size() == pieces_of(uint32_t(size)));
      BOOST_TEST(packed.bytes.size() <= size - size / 8);
      BOOST_TEST((pack(form, noise(1, size)).form == Compression::none));
    }
    BOOST_TEST((pack(form, text_bytes(1, kLargestUnpacked)).form == Compression::none));
    // Noise in front does not hide the text behind it; one piece of text among noise is not worth it.
    Bytes late = noise(2, 8 * kPieceBytes);
    const Bytes text = text_bytes(2, 6 * kPieceBytes);
    std::copy(text.begin(), text.end(), late.begin() + 2 * kPieceBytes);
    BOOST_TEST((pack(form, late).form == form));
    Bytes hardly = noise(2, kMaxChunkBytes);
    std::copy_n(text.begin(), kPieceBytes, hardly.begin());
    BOOST_TEST((pack(form, hardly).form == Compression::none));
  }
  BOOST_TEST((pack(Compression::none, text_bytes(1, 100000)).form == Compression::none));
}

BOOST_AUTO_TEST_CASE(any_part_of_every_form_reads_exactly) {
  Stores stores;
  auto store = stores.open(true);
  std::mt19937 random(1);
  for (const Compression form : kForms) {
    for (const size_t size :
         {size_t(4097), size_t(kPieceBytes) - 1, size_t(kPieceBytes), size_t(kPieceBytes) + 1,
          size_t(3 * kPieceBytes), size_t(700001), kMaxChunkBytes}) {
      for (const bool half : {false, true}) {
        Packed one(half ? mixed(size) : text_bytes(unsigned(form), size), form);
        one.chunk.key.volume = uint32_t(form);
        put(*store, one);
        BOOST_TEST((store->length(one.chunk.key) == uint32_t(size)));
        BOOST_REQUIRE(reads(*store, one.chunk));
        for (int i = 0; i < 40; ++i) {
          const uint32_t offset = uint32_t(random() % size);
          Bytes part(1 + random() % std::min<size_t>(size - offset, i % 2 ? 5000 : size));
          BOOST_REQUIRE(store->read(one.chunk.key, offset, part));
          BOOST_REQUIRE((std::equal(part.begin(), part.end(), one.chunk.bytes.begin() + offset)));
        }
        Bytes beyond(2);
        BOOST_TEST(
            (store->read(one.chunk.key, uint32_t(size - 1), beyond).error().code == Code::invalid_argument));
      }
    }
  }
  BOOST_TEST(store->check(false).empty());
}

BOOST_AUTO_TEST_CASE(equal_content_is_one_chunk_in_whatever_form_it_came_first) {
  Stores stores;
  auto store = stores.open(true);
  const Packed plain(text_bytes(1, 100000), Compression::none),
      small(text_bytes(1, 100000), Compression::zstd);
  put(*store, small);
  const uint64_t before = used(*store);
  put(*store, plain);
  BOOST_TEST(used(*store) == before);
  BOOST_TEST(before < 50000u);
  BOOST_TEST(reads(*store, plain.chunk));
}

BOOST_AUTO_TEST_CASE(a_damaged_piece_is_corrupt_and_the_others_read) {
  for (const Compression form : {Compression::lz4, Compression::zstd}) {
    Stores stores;
    auto store = stores.open(true);
    const Packed one(mixed(6 * kPieceBytes), form);
    put(*store, one);
    const size_t third = one.packed.lengths[0] + one.packed.lengths[1];
    damage(stores.directory.path(), ByteView(one.packed.bytes).subspan(third + 100, 64));
    Bytes part(4096);
    BOOST_TEST(store->read(one.chunk.key, kPieceBytes, part).has_value());
    BOOST_TEST((store->read(one.chunk.key, 2 * kPieceBytes, part).error().code == Code::corrupt));
    BOOST_TEST((store->read(one.chunk.key, 3 * kPieceBytes - 1, part).error().code == Code::corrupt));
    BOOST_TEST(store->read(one.chunk.key, 3 * kPieceBytes, part).has_value());
    BOOST_TEST(store->check(false).size() == 1u);
    BOOST_TEST(store->check(true).size() == 1u);
    BOOST_TEST(store->check(false).empty());
    BOOST_TEST(!store->contains(one.chunk.key));
    put(*store, one);
    BOOST_TEST(reads(*store, one.chunk));
  }
}

// The table says where pieces are: no value of it reads outside of the record, or goes unnoticed.
BOOST_AUTO_TEST_CASE(a_damaged_table_is_corrupt) {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    Stores stores;
    auto store = stores.open(true);
    const Packed one(text_bytes(1, 4 * kPieceBytes), Compression::lz4);
    put(*store, one);
    std::fstream file(stores.directory / "chunks/segments/00000001.seg",
                      std::ios::in | std::ios::out | std::ios::binary);
    const long at = 4096 + 128 + long(random() % 32);
    file.seekg(at);
    const char old = char(file.get());
    char now = char(random());
    if (now == old) now = char(~old);
    file.seekp(at);
    file.put(now);
    file.close();
    Bytes all(one.chunk.bytes.size());
    BOOST_REQUIRE((store->read(one.chunk.key, 0, all).error().code == Code::corrupt));
    BOOST_TEST(store->check(false).size() == 1u);
  }
}

BOOST_AUTO_TEST_CASE(forms_outlive_a_restart_and_a_lost_index) {
  Stores stores;
  std::vector<Packed> all;
  for (unsigned i = 0; i < 30; ++i)
    all.emplace_back(i % 4 == 3 ? noise(i, 20000) : text_bytes(i, 5000 + i * 9000), kForms[i % 3]);
  uint64_t live = 0, listed = 0;
  {
    auto store = stores.open(true);
    for (size_t i = 0; i < all.size(); ++i) {
      put(*store, all[i]);
      if (i == 20) BOOST_REQUIRE(store->checkpoint_sync());
    }
    live = store->stored(7).stored_bytes;
    listed = used(*store);
  }
  const auto complete = [&](ChunkStore& store) {
    for (const Packed& one : all) BOOST_TEST(reads(store, one.chunk));
    BOOST_TEST(store.stored(7).stored_bytes == live);
    BOOST_TEST(store.stored(7).chunks == all.size());
    BOOST_TEST(used(store) == listed);
    BOOST_TEST(store.check(false).empty());
  };
  { complete(*stores.open(false)); }
  stores.index = make_memory_environment(chunk_index_options());
  { complete(*stores.open(false)); }
  { complete(*stores.open(false)); }
}

BOOST_AUTO_TEST_CASE(what_moves_stays_in_its_form) {
  Stores stores;
  auto store = stores.open(true);
  std::vector<Packed> all;
  for (unsigned i = 0; i < 80; ++i) all.emplace_back(mixed(300000 + i), kForms[1 + i % 2]);
  for (const Packed& one : all) put(*store, one);
  BOOST_REQUIRE(store->checkpoint_sync());
  std::vector<size_t> kept{5, 30, 55};
  uint64_t content = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (std::find(kept.begin(), kept.end(), i) == kept.end())
      erase(*store, all[i].chunk);
    else
      content += all[i].chunk.bytes.size();
  }
  for (int i = 0; i < 20; ++i) BOOST_REQUIRE(store->collect());
  for (size_t i : kept) BOOST_TEST(reads(*store, all[i].chunk));
  const VolumeStored stored = store->stored(7);
  BOOST_TEST(stored.chunks == kept.size());
  BOOST_TEST(stored.content_bytes == content);
  BOOST_TEST(stored.stored_bytes < content * 3 / 4);
  BOOST_TEST(store->check(false).empty());
  store.reset();
  store = stores.open(false);
  for (size_t i : kept) BOOST_TEST(reads(*store, all[i].chunk));
}

BOOST_AUTO_TEST_CASE(the_accounts_of_volumes_add_up) {
  Stores stores;
  auto store = stores.open(true);
  const Packed first(text_bytes(1, 100000), Compression::lz4), second(noise(1, 50000), Compression::lz4);
  put(*store, first);
  put(*store, second);
  VolumeStored stored = store->stored(7);
  BOOST_TEST(stored.chunks == 2u);
  BOOST_TEST(stored.content_bytes == 150000u);
  BOOST_TEST(stored.stored_bytes < 100000u);
  BOOST_TEST(stored.stored_bytes > 50000u);
  BOOST_TEST(store->stored(8).chunks == 0u);
  BOOST_REQUIRE(store->checkpoint_sync());
  BOOST_TEST((store->stored(7) == stored));
  erase(*store, first.chunk);
  BOOST_TEST(store->stored(7).content_bytes == 50000u);
  erase(*store, second.chunk);
  BOOST_TEST((store->stored(7) == VolumeStored{}));
}

// An index of before volumes were counted, and one whose count an older program did not keep.
BOOST_AUTO_TEST_CASE(volumes_are_counted_when_the_index_has_not) {
  Stores stores;
  const Packed one(text_bytes(1, 100000), Compression::lz4);
  VolumeStored before;
  {
    auto store = stores.open(true);
    put(*store, one);
    BOOST_REQUIRE(store->checkpoint_sync());
    before = store->stored(7);
  }
  {
    MetaStore index(stores.index);
    auto transaction = index.begin();
    std::string key;
    put_be(key, uint32_t(7));
    transaction->erase(3, key);
    transaction->commit(index.applied_index() + 1);
    BOOST_REQUIRE(index.checkpoint());
  }
  auto store = stores.open(false);
  BOOST_TEST((store->stored(7) == before));
  BOOST_TEST(store->check(false).empty());
}

// A store is format 1 until it holds what programs of before cannot read.
BOOST_AUTO_TEST_CASE(the_first_packed_record_raises_the_format_of_its_store) {
  Stores stores;
  {
    auto store = stores.open(true);
    put(*store, Packed(noise(1, 50000), Compression::lz4));
    BOOST_TEST(marker(stores) == "efs chunk store, format 1");
    put(*store, Packed(text_bytes(1, 50000), Compression::lz4));
    BOOST_TEST(marker(stores) == "efs chunk store, format 2");
  }
  auto store = stores.open(false);
  BOOST_TEST(!store->usage()[0].missing);
  put(*store, Packed(text_bytes(2, 50000), Compression::zstd));
  BOOST_TEST(marker(stores) == "efs chunk store, format 2");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace efs
