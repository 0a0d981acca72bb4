// Why a call failed, for a test's message; empty when it did not. (Boost.Test evaluates the message of a
// check that holds too, where error() is undefined.)
#pragma once

#include <string>

#include "peer/base/error.h"

namespace efs::test {

template <typename T>
std::string why(const Result<T>& result) {
  return result ? std::string() : to_text(result.error());
}

}  // namespace efs::test
