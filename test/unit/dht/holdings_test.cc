// What a holder takes and refuses; expiry; quotas; what survives a restart.
#include "dht/holdings.h"

#include "test/unit/dht/common.h"

namespace efs::dht {
namespace {

struct Fixture {
  std::unique_ptr<RecordStore> store = make_memory_record_store();
  size_t checks = 0;
  HoldingLimits limits{.records = 4, .bytes = 100 << 10, .records_of_publisher = 2};
  Holdings holdings{*store, checker(), limits};
  Instant now{kHour, kWall};

  // Signed when the last byte is 3; its publisher is the record's last id byte.
  Checker checker() {
    return [this](const Record& record) -> Result<Id> {
      ++checks;
      if (record.body.empty() || record.body.back() != 3) return fail(Code::unauthorized);
      return id_of(0, record.key[31]);
    };
  }
  Code put(const Record& record, bool own = false) {
    auto status = holdings.accept(record, own, now, now.now_ns + kHour);
    return status ? Code::ok : status.error().code;
  }
};

#define CHECK_CODE(call, expected) BOOST_TEST(bool((call) == Code::expected))

BOOST_FIXTURE_TEST_CASE(a_higher_version_supersedes, Fixture) {
  CHECK_CODE(put(record_of(id_of(1), 5)), ok);
  CHECK_CODE(put(record_of(id_of(1), 5)), ok);  // the same again
  CHECK_CODE(put(record_of(id_of(1), 4)), conflict);
  CHECK_CODE(put(record_of(id_of(1), 6)), ok);
  BOOST_TEST(holdings.get(id_of(1), now)->version == 6u);
  BOOST_TEST(holdings.size() == 1u);
  BOOST_TEST(checks == 2u);  // older ones and copies cost no signature
}

BOOST_FIXTURE_TEST_CASE(everybody_keeps_the_same_of_two_of_one_version, Fixture) {
  auto a = record_of(id_of(1), 5), b = a;
  b.body = {9, 9, 3};
  CHECK_CODE(put(a), ok);
  CHECK_CODE(put(b), ok);
  CHECK_CODE(put(a), conflict);
  auto removal = a;
  removal.removed = true;
  CHECK_CODE(put(removal), ok);
  CHECK_CODE(put(b), conflict);
  BOOST_TEST(holdings.get(id_of(1), now)->removed);
}

BOOST_FIXTURE_TEST_CASE(a_removal_keeps_older_versions_out_until_it_expires, Fixture) {
  CHECK_CODE(put(record_of(id_of(1), 5)), ok);
  auto removal = record_of(id_of(1), 6);
  removal.removed = true;
  CHECK_CODE(put(removal), ok);
  CHECK_CODE(put(record_of(id_of(1), 5)), conflict);
  now.now_ns += 2 * kHour;
  now.wall_ns += 2 * kHour;
  BOOST_TEST(!holdings.get(id_of(1), now).has_value());
  CHECK_CODE(put(record_of(id_of(1), 5, now.wall_ns + kHour)), ok);
}

BOOST_FIXTURE_TEST_CASE(what_is_not_in_order_is_refused, Fixture) {
  auto unsigned_record = record_of(id_of(1), 5);
  unsigned_record.body.back() = 4;
  CHECK_CODE(put(unsigned_record), unauthorized);
  CHECK_CODE(put(record_of(id_of(1), 5, kWall)), expired);
  CHECK_CODE(put(record_of(id_of(1), 5, INT64_MIN)), expired);
  CHECK_CODE(put(record_of(id_of(1), 5, INT64_MAX)), invalid_argument);
  CHECK_CODE(put(record_of(id_of(1), 5, kWall + kMaxTtl + 1)), invalid_argument);
  auto large = record_of(id_of(1), 5);
  large.body.assign(kMaxRecordBytes + 1, 3);
  CHECK_CODE(put(large), too_large);
  large.body.pop_back();
  CHECK_CODE(put(large), ok);
  BOOST_TEST(holdings.size() == 1u);
}

BOOST_FIXTURE_TEST_CASE(publishers_and_the_whole_have_limits, Fixture) {
  CHECK_CODE(put(record_of(id_of(1), 1)), ok);
  CHECK_CODE(put(record_of(id_of(2), 1)), ok);
  CHECK_CODE(put(record_of(id_of(3), 1)), overloaded);  // of one publisher
  CHECK_CODE(put(record_of(id_of(2), 2)), ok);          // what is there may go on
  CHECK_CODE(put(record_of(id_of(3, 1), 1)), ok);
  auto large = record_of(id_of(4, 1), 1);
  large.body.assign(60 << 10, 3);
  CHECK_CODE(put(large), ok);
  CHECK_CODE(put(record_of(id_of(5, 2), 1)), overloaded);  // four records are held
  CHECK_CODE(put(record_of(id_of(5, 2), 1), true), ok);    // there is always room for our own
  holdings.drop(id_of(1));
  holdings.drop(id_of(2));
  large.key = id_of(6, 2);
  CHECK_CODE(put(large), overloaded);  // 120 KiB of 100
  large.key = id_of(4, 1);
  large.version = 2;
  CHECK_CODE(put(large), ok);  // in place of the one before
  BOOST_TEST(holdings.bytes() == (60u << 10) + 6);
}

BOOST_FIXTURE_TEST_CASE(expiry_does_not_follow_a_jumping_clock, Fixture) {
  CHECK_CODE(put(record_of(id_of(1), 1)), ok);  // two hours
  now.wall_ns += 100 * kHour;
  holdings.drop_expired(now);
  BOOST_TEST(holdings.get(id_of(1), now).has_value());
  now.wall_ns -= 200 * kHour;
  now.now_ns += 2 * kHour;
  BOOST_TEST(!holdings.get(id_of(1), now).has_value());
  holdings.drop_expired(now);
  BOOST_TEST(holdings.size() == 0u);
  BOOST_TEST(holdings.bytes() == 0u);
  BOOST_TEST(!store->get(id_of(1)).has_value());
}

BOOST_FIXTURE_TEST_CASE(a_restart_finds_what_was_held, Fixture) {
  CHECK_CODE(put(record_of(id_of(1), 1)), ok);
  CHECK_CODE(put(record_of(id_of(2), 7), true), ok);
  CHECK_CODE(put(record_of(id_of(3, 1), 1, kWall + kMinute)), ok);
  now.wall_ns += kHour;
  now.now_ns = 5;  // the machine was off: another monotonic clock
  Holdings again(*store, checker(), limits);
  BOOST_TEST(bool(again.load(now, [] { return int64_t(77); })));
  BOOST_TEST(again.size() == 2u);
  BOOST_TEST(!store->get(id_of(3, 1)).has_value());
  BOOST_REQUIRE(again.find(id_of(2), now) != nullptr);
  BOOST_TEST(again.find(id_of(2), now)->own);
  BOOST_TEST(again.find(id_of(2), now)->due_ns == 77);
  BOOST_TEST(again.find(id_of(2), now)->deadline_ns == 5 + kHour);
  BOOST_TEST(!again.find(id_of(1), now)->own);
}

BOOST_FIXTURE_TEST_CASE(what_others_supersede_is_no_longer_ours, Fixture) {
  CHECK_CODE(put(record_of(id_of(1), 1), true), ok);
  CHECK_CODE(put(record_of(id_of(1), 1)), ok);
  BOOST_TEST(holdings.find(id_of(1), now)->own);
  CHECK_CODE(put(record_of(id_of(1), 2)), ok);
  BOOST_TEST(!holdings.find(id_of(1), now)->own);
}

}  // namespace
}  // namespace efs::dht
