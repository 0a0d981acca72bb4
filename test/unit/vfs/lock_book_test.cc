// What a mount lets go of when the kernel says that a process, or an open file, did.
#include "vfs/lock_book.h"

#include <boost/test/unit_test.hpp>

#include "fake_volume.h"

using namespace efs;

BOOST_AUTO_TEST_SUITE(lock_book)

BOOST_AUTO_TEST_CASE(who_asked_may_hold_something_until_it_let_go) {
  LockBook book;
  const LockBook::Holder holder{9, false, 1};
  BOOST_TEST(!book.take(holder));
  book.answered(book.ask(holder, std::make_shared<FakeVolume>()), false);
  BOOST_TEST(book.was_locked(9));
  BOOST_TEST(book.take(holder));
  BOOST_TEST(!book.take(holder));
}

// One thread waits for a lock, another closes a descriptor of the file.
BOOST_AUTO_TEST_CASE(what_is_granted_after_letting_go_is_held) {
  LockBook book;
  const LockBook::Holder holder{9, false, 1};
  const uint64_t granted = book.ask(holder, std::make_shared<FakeVolume>());
  const uint64_t refused = book.ask(holder, std::make_shared<FakeVolume>());
  BOOST_TEST(book.take(holder));
  book.answered(refused, false);
  BOOST_TEST(!book.take(holder));
  book.answered(granted, true);
  BOOST_TEST(book.take(holder));
  BOOST_TEST(book.take_waits().empty());
}

BOOST_AUTO_TEST_CASE(the_end_takes_everything_once) {
  LockBook book;
  const uint64_t ticket = book.ask({9, true, 1}, std::make_shared<FakeVolume>());
  BOOST_TEST(book.take_waits().size() == 1u);
  BOOST_TEST(book.take_all().size() == 1u);
  book.answered(ticket, true);
  BOOST_TEST(book.take_all().empty());
}

BOOST_AUTO_TEST_SUITE_END()
