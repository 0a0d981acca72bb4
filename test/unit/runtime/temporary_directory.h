// A directory under /tmp that goes with its owner.
#pragma once

#include <stdlib.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>

namespace efs {

class TemporaryDirectory {
 public:
  TemporaryDirectory() { BOOST_REQUIRE(mkdtemp(name_.data())); }
  ~TemporaryDirectory() { std::filesystem::remove_all(name_); }
  std::string operator/(const std::string& name) const { return name_ + "/" + name; }
  const std::string& path() const { return name_; }

 private:
  std::string name_ = "/tmp/efs-test-XXXXXX";
};

}  // namespace efs
