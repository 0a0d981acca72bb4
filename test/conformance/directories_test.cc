// Directories: readdir, telldir, seekdir, rewinddir while they change; many entries; links and sizes.
#include <sys/syscall.h>

#include <map>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

// All names of an open directory from where it stands, "." and ".." too.
std::multiset<std::string> rest(DIR* stream) {
  std::multiset<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream)) names.insert(entry->d_name);
  EQ(errno, 0);
  return names;
}

TEST(readdir, dots_and_inodes) {
  OK(mkdir("d", 0755));
  make_file("d/f");
  DIR* stream = opendir(seen("d").c_str());
  std::map<std::string, ino_t> found;
  while (const dirent* entry = readdir(stream)) found[entry->d_name] = entry->d_ino;
  closedir(stream);
  EQ(found.size(), 3u);
  EQ(found["."], info(seen("d")).st_ino);
  EQ(found[".."], info(seen("")).st_ino);
  EQ(found["f"], info(seen("d/f")).st_ino);
}

TEST(readdir, empty_and_rewound) {
  OK(mkdir("d", 0755));
  DIR* stream = opendir("d");
  EQ(rest(stream).size(), 2u);
  EQ(rest(stream).size(), 0u);
  make_file("d/f");
  rewinddir(stream);
  EQ(rest(stream), (std::multiset<std::string>{".", "..", "f"}));
  OK(unlink("d/f"));
  rewinddir(stream);
  EQ(rest(stream).size(), 2u);
  closedir(stream);
}

TEST(readdir, many_entries) {
  OK(mkdir("d", 0755));
  std::set<std::string> names;
  for (int i = 0; i < 1200; ++i) {
    const std::string name = "entry-" + std::to_string(i) + std::string(size_t(i % 100), 'x');
    names.insert(name);
    make_file("d/" + name);
  }
  TRUE(names_in(seen("d")) == names);
  TRUE(names_in("d") == names);
  for (int i = 0; i < 1200; i += 2)
    OK(unlink(("d/entry-" + std::to_string(i) + std::string(size_t(i % 100), 'x')).c_str()));
  EQ(names_in(seen("d")).size(), 600u);
}

TEST(readdir, removing_while_reading) {  // as rm -r does: what is not removed comes once, nothing is skipped
  OK(mkdir("d", 0755));
  for (int i = 0; i < 600; ++i) make_file("d/" + std::to_string(i));
  DIR* stream = opendir("d");
  int seen_names = 0;
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == '.') continue;
    ++seen_names;
    OK(unlinkat(dirfd(stream), entry->d_name, 0));
  }
  closedir(stream);
  EQ(seen_names, 600);
  EQ(names_in(seen("d")).size(), 0u);
}

TEST(readdir, adding_while_reading) {  // what was there before comes exactly once
  OK(mkdir("d", 0755));
  for (int i = 0; i < 500; ++i) make_file("d/old" + std::to_string(i));
  DIR* stream = opendir(seen("d").c_str());
  std::multiset<std::string> found;
  int added = 0;
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == 'o') found.insert(entry->d_name);
    if (added < 500) make_file("d/new" + std::to_string(added++));
  }
  closedir(stream);
  EQ(found.size(), 500u);
  EQ(std::set<std::string>(found.begin(), found.end()).size(), 500u);
}

TEST(readdir, renaming_while_reading_ends) {  // what a reader itself makes is not shown to it for ever
  constexpr int kFiles = 400;
  for (int i = 0; i < kFiles; ++i) make_file("f" + std::to_string(i));
  for (const char* added : {"", "x"}) {
    DIR* stream = opendir(".");
    int shown = 0;
    while (const dirent* entry = readdir(stream)) {
      if (entry->d_name[0] == '.') continue;
      const std::string name = entry->d_name;
      OK(rename(name.c_str(), "moving"));
      OK(rename("moving", (name + added).c_str()));
      if (++shown > 3 * kFiles) break;
    }
    closedir(stream);
    TRUE(shown >= kFiles);
    TRUE(shown < 3 * kFiles);
    EQ(names_in(seen("")).size(), size_t(kFiles));
  }
  DIR* stream = opendir(".");
  readdir(stream);
  make_file("late");
  rewinddir(stream);  // reads anew
  bool found = false;
  while (const dirent* entry = readdir(stream)) found |= std::string(entry->d_name) == "late";
  closedir(stream);
  TRUE(found);
}

// As `ls -l` reads: what a listing under way brings is not older than what was changed through the same
// mount.
TEST(readdir, changes_while_reading) {
  constexpr int kFiles = 2500;
  OK(mkdir("d", 0755));
  const auto file = [](int number) { return seen("d") + "/file" + std::to_string(10000 + number); };
  for (int i = 0; i < kFiles; ++i) make_file("d/file" + std::to_string(10000 + i));
  std::map<std::string, int> changed;
  DIR* stream = opendir(seen("d").c_str());
  int shown = 0, stale = 0, next = 100;
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == '.') continue;
    const std::string path = seen("d") + "/" + entry->d_name;
    struct stat is {};
    const bool there = lstat(path.c_str(), &is) == 0;
    if (auto found = changed.find(path); found != changed.end()) {
      const bool as_left = found->second == 0   ? there && (is.st_mode & 07777) == 0600
                           : found->second == 1 ? there && is.st_size == 5
                           : found->second == 2 ? !there
                                                : there && is.st_size == 7;
      stale += !as_left;
    }
    if (++shown % 8 != 0 || (next = std::max(next, shown + 100)) + 203 >= kFiles) continue;
    const int how = shown / 8 % 4;
    for (const std::string& at : {file(next), file(next + 203)}) {
      if (changed.contains(at)) continue;
      changed[at] = how;
      if (how == 0) OK(chmod(at.c_str(), 0600));
      if (how == 1) make_file(at, "hello");
      if (how == 2) OK(unlink(at.c_str()));
      if (how == 3) {
        make_file(at + "~", "renamed");
        OK(rename((at + "~").c_str(), at.c_str()));
      }
    }
    ++next;
  }
  closedir(stream);
  TRUE(changed.size() > 300);
  EQ(stale, 0);
}

TEST(readdir, positions) {
  OK(mkdir("d", 0755));
  for (int i = 0; i < 300; ++i) make_file("d/" + std::to_string(i));
  DIR* stream = opendir("d");
  std::vector<std::pair<long, std::string>> places;  // the position, and what comes there
  while (true) {
    const long at = telldir(stream);
    const dirent* entry = readdir(stream);
    if (!entry) break;
    places.emplace_back(at, entry->d_name);
  }
  EQ(places.size(), 302u);
  for (size_t i = 0; i < places.size(); i += 7) {
    const auto& [at, name] = places[places.size() - 1 - i];
    seekdir(stream, at);
    const dirent* entry = readdir(stream);
    TRUE(entry != nullptr && name == entry->d_name);
  }
  closedir(stream);
}

TEST(readdir, positions_while_entries_come_and_go) {
  OK(mkdir("d", 0755));
  for (int i = 0; i < 400; ++i) make_file("d/" + std::to_string(i));
  DIR* stream = opendir(seen("d").c_str());
  std::vector<std::pair<long, std::string>> places;
  while (true) {
    const long at = telldir(stream);
    const dirent* entry = readdir(stream);
    if (!entry) break;
    places.emplace_back(at, entry->d_name);
  }
  // Take away every entry but each tenth, add others: the positions still lead to what stood there, or after.
  std::set<std::string> kept;
  for (size_t i = 0; i < places.size(); ++i) {
    const std::string& name = places[i].second;
    if (name[0] == '.') continue;
    if (i % 10 == 0) {
      kept.insert(name);
    } else {
      OK(unlink(("d/" + name).c_str()));
    }
  }
  for (int i = 0; i < 100; ++i) make_file("d/new" + std::to_string(i));
  for (size_t i = 0; i < places.size(); i += 13) {
    seekdir(stream, places[i].first);
    const auto found = rest(stream);
    for (size_t later = i; later < places.size(); ++later) {
      if (!kept.contains(places[later].second)) continue;
      EQ(found.count(places[later].second), 1u);
    }
    for (size_t before = 0; before < i; ++before) {
      if (kept.contains(places[before].second)) EQ(found.count(places[before].second), 0u);
    }
  }
  closedir(stream);
}

TEST(readdir, small_buffers) {  // getdents64 with room for little
  OK(mkdir("d", 0755));
  for (int i = 0; i < 50; ++i) make_file("d/" + std::string(100, 'n') + std::to_string(i));
  Fd fd(OK(open(seen("d").c_str(), O_RDONLY | O_DIRECTORY)));
  std::set<std::string> found;
  alignas(8) char buffer[300];
  while (true) {
    const long got = OK(syscall(SYS_getdents64, int(fd), buffer, sizeof buffer));
    if (got == 0) break;
    for (long at = 0; at < got;) {
      auto* entry = reinterpret_cast<dirent64*>(buffer + at);
      found.insert(entry->d_name);
      at += entry->d_reclen;
    }
  }
  EQ(found.size(), 52u);
  OK(lseek(fd, 0, SEEK_SET));
  FAILS(EINVAL, syscall(SYS_getdents64, int(fd), buffer, 10));
  make_file("f");
  Fd file(OK(open("f", O_RDONLY)));
  FAILS(ENOTDIR, syscall(SYS_getdents64, int(file), buffer, sizeof buffer));
}

TEST(readdir, longest_names) {
  OK(mkdir("d", 0755));
  std::set<std::string> names;
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    names.insert(std::string(255, letter));
    make_file("d/" + std::string(255, letter));
  }
  EQ(names_in(seen("d")), names);
}

TEST(readdir, removed_directory) {
  OK(mkdir("d", 0755));
  DIR* stream = opendir("d");
  OK(rmdir("d"));
  TRUE(rest(stream).size() <= 2u);
  rewinddir(stream);
  closedir(stream);
}

TEST(readdir, goes_on_without_the_right) {  // it was asked for when the directory was opened
  OK(mkdir("d", 0755));
  for (int i = 0; i < 100; ++i) make_file("d/" + std::to_string(i));
  OK(chown("d", kUser, kGroup));
  as_user([&] {
    DIR* stream = opendir("d");
    OK(chmod("d", 0));
    TRUE(rest(stream).size() == 102u);
    rewinddir(stream);
    TRUE(rest(stream).size() == 102u);
    closedir(stream);
    TRUE(opendir("d") == nullptr);
    EQ(errno, EACCES);
  });
  OK(chmod("d", 0755));
}

TEST(opendir, errors) {
  make_file("f");
  OK(mkdir("closed", 0300));
  const auto opens = [](const char* path) {
    DIR* stream = opendir(path);
    if (!stream) return -1;
    closedir(stream);
    return 0;
  };
  FAILS(ENOTDIR, opens("f"));
  FAILS(ENOENT, opens("missing"));
  as_user([&] { FAILS(EACCES, opens("closed")); });
}

TEST(directory, links_count_subdirectories) {
  EQ(info(seen("")).st_nlink, 2u);
  for (int i = 0; i < 10; ++i) OK(mkdir(("d" + std::to_string(i)).c_str(), 0755));
  make_file("f");
  EQ(info(seen("")).st_nlink, 12u);
  EQ(info(seen("d0")).st_nlink, 2u);
  OK(rmdir("d3"));
  EQ(info(seen("")).st_nlink, 11u);
}

TEST(directory, deep_paths) {
  constexpr int kDepth = 300;
  for (int i = 0; i < kDepth; ++i) {
    OK(mkdir("directory-with-a-longer-name", 0755));
    OK(chdir("directory-with-a-longer-name"));
  }
  make_file("f", "deep");
  Fd fd(OK(open("f", O_RDONLY)));
  for (int i = 0; i < kDepth; ++i) OK(chdir(".."));
  EQ(info(".").st_ino, info(here()).st_ino);
  EQ(read_at(fd, 10, 0), "deep");
}

}  // namespace
}  // namespace conformance
