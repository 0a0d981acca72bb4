// model STEPS SEED EXT4-DIR DIR [SECOND-DIR]: random operations on the model, on ext4 and on DIR (which is
// SECOND-DIR through another mount); the first difference is shrunk to a few operations and printed.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <iostream>

#include "test/model/model.h"

namespace model {
namespace {

constexpr size_t kDumpEvery = 200;  // operations between looks at the whole tree
constexpr size_t kPerTree = 5000;   // operations on one tree, then a new one
constexpr int kMaxReplays = 400;    // while shrinking

struct Where {
  std::string ext4;
  std::vector<std::string> directories;
};

// Three runners on fresh directories.
class Trial {
 public:
  Trial(const Where& where, size_t number) {
    const std::string name = "/model-" + std::to_string(getpid()) + "-" + std::to_string(number);
    make(where.ext4 + name);
    make(where.directories.front() + name);
    std::vector<std::string> through;
    for (const std::string& directory : where.directories) through.push_back(directory + name);
    model_ = make_model();
    ext4_ = make_real({where.ext4 + name});
    real_ = make_real(through);
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;
  ~Trial() {
    ext4_.reset();
    real_.reset();
    for (const std::string& path : made_) {
      [[maybe_unused]] const int status = system(("rm -rf '" + path + "'").c_str());
    }
  }
  // What differs; empty when nothing does.
  std::string step(const Operation& operation) {
    return compare(model_->run(operation), ext4_->run(operation), real_->run(operation));
  }
  std::string look() { return compare(model_->dump(), ext4_->dump(), real_->dump()); }

 private:
  static std::string compare(const std::string& model, const std::string& ext4, const std::string& real) {
    if (model == ext4 && ext4 == real) return {};
    return "model: " + model + "\next4:  " + ext4 + "\nhere:  " + real + "\n";
  }
  void make(const std::string& path) {
    if (mkdir(path.c_str(), 0755) != 0) {
      perror(path.c_str());
      exit(2);
    }
    made_.push_back(path);
  }
  std::unique_ptr<Runner> model_, ext4_, real_;
  std::vector<std::string> made_;
};

size_t trials = 0;

// Runs all; at the first difference: how many operations were run, and what differs.
std::pair<size_t, std::string> replay(const Where& where, const std::vector<Operation>& operations) {
  Trial trial(where, trials++);
  for (size_t i = 0; i < operations.size(); ++i) {
    if (auto difference = trial.step(operations[i]); !difference.empty()) return {i + 1, difference};
  }
  return {operations.size(), trial.look()};
}

// Leaves out what the difference does not need: halves, then quarters, ... then single operations.
std::vector<Operation> shrink(const Where& where, std::vector<Operation> operations) {
  int left = kMaxReplays;
  for (size_t part = operations.size() / 2; part >= 1 && left > 0; part = part == 1 ? 0 : part / 2) {
    for (size_t at = 0; at + 1 < operations.size() && left > 0;) {
      std::vector<Operation> fewer = operations;
      fewer.erase(fewer.begin() + ptrdiff_t(at),
                  fewer.begin() + ptrdiff_t(std::min(at + part, fewer.size())));
      --left;
      auto [used, difference] = replay(where, fewer);
      if (difference.empty()) {
        at += part;
      } else {
        fewer.resize(used);
        operations = std::move(fewer);
      }
    }
  }
  return operations;
}

int report(const Where& where, const std::vector<Operation>& operations, const std::string& difference) {
  std::cout << "difference after " << operations.size() << " operations:\n"
            << difference << "shrinking" << std::endl;
  if (replay(where, operations).second.empty()) {
    std::cout << "not so when it is run again: a matter of time\n";
    for (size_t i = operations.size() > 12 ? operations.size() - 12 : 0; i < operations.size(); ++i)
      std::cout << "  " << to_text(operations[i]) << "\n";
  } else {
    const auto fewest = shrink(where, operations);
    const auto [used, still] = replay(where, fewest);
    std::cout << fewest.size() << " operations are enough:\n";
    for (const Operation& operation : fewest) std::cout << "  " << to_text(operation) << "\n";
    std::cout << still;
  }
  std::cout << "0 passed, 1 failed" << std::endl;
  return 1;
}

int run_all(size_t steps, uint64_t seed, const Where& where) {
  std::cout << "seed " << seed << std::endl;
  Random random(seed);
  for (size_t done = 0; done < steps;) {
    std::vector<Operation> operations;
    Trial trial(where, trials++);
    for (; operations.size() < kPerTree && done < steps; ++done) {
      operations.push_back(draw(random, unsigned(where.directories.size())));
      std::string difference = trial.step(operations.back());
      if (difference.empty() && operations.size() % kDumpEvery == 0) difference = trial.look();
      if (!difference.empty()) return report(where, operations, difference);
    }
  }
  std::cout << "figure model_steps " << steps << "\n1 passed, 0 failed" << std::endl;
  return 0;
}

}  // namespace
}  // namespace model

int main(int argc, char** argv) {
  if (argc < 5 || argc > 6) {
    std::cerr << "usage: model STEPS SEED EXT4-DIR DIR [SECOND-DIR]\n";
    return 2;
  }
  umask(022);
  model::Where where{argv[3], {}};
  for (int i = 4; i < argc; ++i) where.directories.push_back(argv[i]);
  return model::run_all(strtoull(argv[1], nullptr, 0), strtoull(argv[2], nullptr, 0), where);
}
