// The entry point of every test program: Boost.Test's own.
#define BOOST_TEST_MODULE efs
#include <boost/test/unit_test.hpp>
