// Field-list encoding: round trips, defaults left out, unknown and missing fields, hostile bytes.
#include "peer/base/encoding.h"

#include <boost/test/unit_test.hpp>
#include <limits>
#include <random>

namespace efs {
namespace {

struct Inner {
  uint32_t number = 7;
  std::string name;
  static constexpr auto fields() {
    return std::tuple{field("number", &Inner::number), field("name", &Inner::name)};
  }
};
struct Outer {
  static constexpr uint16_t kKind = 3;
  int64_t when = 0;
  bool flag = true;
  Id id{};
  Bytes blob;
  std::vector<Inner> list;
  std::optional<Inner> maybe;
  static constexpr auto fields() {
    return std::tuple{field("when", &Outer::when), field("flag", &Outer::flag),
                      field("id", &Outer::id),     field("blob", &Outer::blob),
                      field("list", &Outer::list), field("maybe", &Outer::maybe)};
  }
};
struct OuterLater {  // a later version: one field gone, one new
  bool flag = true;
  std::string added = "default";
  static constexpr auto fields() {
    return std::tuple{field("added", &OuterLater::added), field("flag", &OuterLater::flag)};
  }
};
struct Other {
  static constexpr uint16_t kKind = 4;
  uint8_t small = 0;
  static constexpr auto fields() { return std::tuple{field("small", &Other::small)}; }
};

Outer sample() {
  Outer outer;
  outer.when = std::numeric_limits<int64_t>::min();
  outer.flag = false;
  outer.id[31] = 9;
  outer.blob = {1, 2, 3};
  outer.list = {{1, "a"}, {7, ""}, {std::numeric_limits<uint32_t>::max(), std::string(300, 'x')}};
  outer.maybe = Inner{};
  return outer;
}

BOOST_AUTO_TEST_CASE(round_trip) {
  auto back = decode<Outer>(encode(sample()));
  BOOST_REQUIRE(back);
  BOOST_CHECK(*back == sample());
  BOOST_CHECK(!(*back == Outer{}));
}

BOOST_AUTO_TEST_CASE(defaults_take_no_bytes) {
  BOOST_CHECK_EQUAL(encode(Outer{}).size(), 1u);
}

BOOST_AUTO_TEST_CASE(other_versions_are_read) {
  auto later = decode<OuterLater>(encode(sample()));
  BOOST_REQUIRE(later);
  BOOST_CHECK_EQUAL(later->flag, false);
  BOOST_CHECK_EQUAL(later->added, "default");
}

BOOST_AUTO_TEST_CASE(fields_in_any_order) {
  const auto decoded = [](std::vector<std::pair<std::string, uint64_t>> pairs) {
    Bytes bytes;
    {
      Encoder out(bytes);
      out.map(pairs.size());
      for (const auto& [key, value] : pairs) {
        out.string(key);
        out.unsigned_integer(value);
      }
    }
    struct Three {
      uint32_t a = 10, b = 20, c = 30;
      static constexpr auto fields() {
        return std::tuple{field("a", &Three::a), field("b", &Three::b), field("c", &Three::c)};
      }
    };
    const auto three = decode<Three>(bytes);
    BOOST_REQUIRE(three);
    return std::vector<uint32_t>{three->a, three->b, three->c};
  };
  using Expected = std::vector<uint32_t>;
  BOOST_TEST((decoded({}) == Expected{10, 20, 30}));
  BOOST_TEST((decoded({{"b", 2}}) == Expected{10, 2, 30}));
  BOOST_TEST((decoded({{"a", 1}, {"c", 3}}) == Expected{1, 20, 3}));
  BOOST_TEST((decoded({{"c", 3}, {"a", 1}, {"b", 2}}) == Expected{1, 2, 3}));
  BOOST_TEST((decoded({{"new", 9}, {"a", 1}, {"newer", 9}, {"c", 3}, {"newest", 9}}) == Expected{1, 20, 3}));
  BOOST_TEST((decoded({{"a", 1}, {"b", 2}, {"a", 4}}) == Expected{1, 2, 30}));  // twice: the first counts
  BOOST_TEST((decoded({{"b", 2}, {"a", 1}, {"b", 5}, {"c", 3}}) == Expected{1, 2, 3}));
}

BOOST_AUTO_TEST_CASE(what_is_gathered_arrives_whole) {
  for (size_t length = 0; length < 600; ++length) {  // over the end of what is gathered, and longer than it
    const std::vector<std::string> strings{std::string(length, 'a'), "b", std::string(600 - length, 'c')};
    struct Holder {
      std::vector<std::string> strings;
      static constexpr auto fields() { return std::tuple{field("s", &Holder::strings)}; }
    };
    const auto back = decode<Holder>(encode(Holder{strings}));
    BOOST_REQUIRE(back);
    BOOST_REQUIRE((back->strings == strings));
  }
}

BOOST_AUTO_TEST_CASE(variants) {
  using Either = std::variant<Outer, Other>;
  auto back = decode<Either>(encode(Either(Other{200})));
  BOOST_REQUIRE(back);
  BOOST_CHECK_EQUAL(std::get<Other>(*back).small, 200);
  auto unknown = decode<std::variant<Outer>>(encode(Either(Other{1})));
  BOOST_REQUIRE(!unknown);
  BOOST_CHECK(unknown.error().code == Code::version);
  // Also in a field, in a vector; a body of the wrong shape is still no other version.
  struct Holder {
    std::vector<std::variant<Other>> items;
    static constexpr auto fields() { return std::tuple{field("items", &Holder::items)}; }
  };
  struct NewerHolder {
    std::vector<Either> items;
    static constexpr auto fields() { return std::tuple{field("items", &NewerHolder::items)}; }
  };
  auto nested = decode<Holder>(encode(NewerHolder{{Other{1}, Outer{}}}));
  BOOST_REQUIRE(!nested);
  BOOST_CHECK(nested.error().code == Code::version);
  auto known = decode<Holder>(encode(NewerHolder{{Other{1}}}));
  BOOST_REQUIRE(known);
  BOOST_CHECK_EQUAL(known->items.size(), 1U);
  Bytes wrong;
  {
    Encoder out(wrong);
    out.map(2);
    out.string("k");
    out.unsigned_integer(Other::kKind);
    out.string("b");
    out.boolean(true);
  }
  auto broken = decode<Either>(wrong);
  BOOST_REQUIRE(!broken);
  BOOST_CHECK(broken.error().code == Code::protocol);
}

BOOST_AUTO_TEST_CASE(wrong_types_and_ranges_are_refused) {
  struct Wide {
    uint64_t small = 0;
    static constexpr auto fields() { return std::tuple{field("small", &Wide::small)}; }
  };
  BOOST_CHECK(!decode<Other>(encode(Wide{256})));
  BOOST_CHECK(!decode<Outer>(Bytes{0x01}));
  BOOST_CHECK(!decode<Outer>(Bytes{}));
  Bytes trailing = encode(sample());
  trailing.push_back(0);
  BOOST_CHECK(!decode<Outer>(trailing));
}

BOOST_AUTO_TEST_CASE(what_calls_itself_invalid_is_refused) {
  struct Even {
    uint32_t number = 0, other = 0;
    bool valid() const { return number % 2 == 0; }
    static constexpr auto fields() {
      return std::tuple{field("number", &Even::number), field("other", &Even::other)};
    }
  };
  struct Holder {
    std::vector<Even> list;
    static constexpr auto fields() { return std::tuple{field("list", &Holder::list)}; }
  };
  BOOST_CHECK(decode<Even>(encode(Even{2, 1})));
  for (const Even& odd : {Even{3, 0}, Even{3, 1}}) {
    auto refused = decode<Even>(encode(odd));
    BOOST_REQUIRE(!refused);
    BOOST_CHECK(refused.error().code == Code::protocol);
    BOOST_CHECK(!decode<Holder>(encode(Holder{{{2, 0}, odd}})));
  }
}

BOOST_AUTO_TEST_CASE(hostile_bytes_never_crash) {
  std::mt19937_64 random(42);
  const Bytes good = encode(sample());
  for (int round = 0; round < 20000; ++round) {
    Bytes bad = good;
    for (int flips = 0; flips < 3; ++flips) bad[random() % bad.size()] = uint8_t(random());
    bad.resize(random() % (bad.size() + 1));
    auto result = decode<Outer>(bad);
    if (result) (void)encode(*result);
  }
  // A map that claims four billion pairs, arrays nested a thousand deep.
  BOOST_CHECK(!decode<Outer>(Bytes{0xdf, 0xff, 0xff, 0xff, 0xff}));
  BOOST_CHECK(!decode<Outer>(Bytes(1000, 0x91)));
}

}  // namespace
}  // namespace efs
