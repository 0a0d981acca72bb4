// splice(2) and sendfile(2): between a file and a pipe or a socket.
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>

#include "test/conformance/conformance.h"

namespace conformance {
namespace {

std::string numbered(size_t length) {  // no two places alike
  std::string out;
  for (size_t i = 0; out.size() < length; ++i) out += std::to_string(i) + " ";
  out.resize(length);
  return out;
}
struct Pipe {
  Pipe() { OK(pipe2(ends, O_NONBLOCK)); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  std::string drained() {
    std::string out(1 << 20, '\0');
    size_t got = 0;
    for (ssize_t now; (now = read(ends[0], out.data() + got, out.size() - got)) > 0;) got += size_t(now);
    out.resize(got);
    return out;
  }
  void fill(const std::string& bytes) {
    EQ(OK(write(ends[1], bytes.data(), bytes.size())), ssize_t(bytes.size()));
  }
  int ends[2];
};
// What `length` bytes are moved by, call after call, until one moves nothing; how many they were.
size_t moved(size_t length, const std::function<ssize_t(size_t)>& move) {
  size_t done = 0;
  while (done < length) {
    const ssize_t now = OK(move(length - done));
    if (now == 0) break;
    done += size_t(now);
  }
  return done;
}

TEST(splice, from_a_file) {
  const std::string bytes = numbered(60'000);
  make_file("f", bytes);
  Fd fd(OK(open(seen("f").c_str(), O_RDONLY)));
  Pipe pipe;
  EQ(moved(1000, [&](size_t left) { return splice(fd, nullptr, pipe.ends[1], nullptr, left, 0); }), 1000u);
  EQ(lseek(fd, 0, SEEK_CUR), 1000);
  TRUE(pipe.drained() == bytes.substr(0, 1000));
  off64_t at = 4090;  // over the end of a page
  EQ(moved(10'000, [&](size_t left) { return splice(fd, &at, pipe.ends[1], nullptr, left, 0); }), 10'000u);
  EQ(at, 14'090);
  EQ(lseek(fd, 0, SEEK_CUR), 1000);
  TRUE(pipe.drained() == bytes.substr(4090, 10'000));
  at = 59'990;  // a short count at the end, then none
  EQ(splice(fd, &at, pipe.ends[1], nullptr, 100, 0), 10);
  EQ(splice(fd, &at, pipe.ends[1], nullptr, 100, 0), 0);
  EQ(at, 60'000);
  EQ(pipe.drained(), bytes.substr(59'990));
}

TEST(splice, from_what_others_have_changed) {
  make_file("f", numbered(20'000));
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_RDWR)));
  Pipe pipe;
  const auto from = [&](off64_t at, size_t length) {
    moved(length, [&](size_t left) { return splice(fd, &at, pipe.ends[1], nullptr, left, 0); });
    return pipe.drained();
  };
  TRUE(from(0, 20'000) == numbered(20'000));
  EQ(pwrite(other, "changed", 7, 5000), 7);
  EQ(from(4999, 9), numbered(20'000).substr(4999, 1) + "changed" + numbered(20'000).substr(5007, 1));
  OK(ftruncate(other, 5003));
  EQ(from(4999, 100), numbered(20'000).substr(4999, 1) + "cha");
  EQ(pwrite(other, "longer", 6, 5003), 6);
  EQ(info_of(fd).st_size, 5009);
  EQ(from(4999, 100), numbered(20'000).substr(4999, 1) + "chalonger");
}

TEST(splice, from_bytes_not_yet_sent) {
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644))), other(OK(open(seen("f").c_str(), O_RDONLY)));
  Pipe pipe;
  for (int reader : {int(fd), int(other)}) {
    const std::string bytes = numbered(30'000 + size_t(reader));
    EQ(pwrite(fd, bytes.data(), bytes.size(), 0), ssize_t(bytes.size()));
    EQ(info_of(reader).st_size, off_t(bytes.size()));
    off64_t at = 0;
    moved(bytes.size(), [&](size_t left) { return splice(reader, &at, pipe.ends[1], nullptr, left, 0); });
    TRUE(pipe.drained() == bytes);
  }
}

TEST(splice, to_a_file) {
  const std::string bytes = numbered(30'000);
  Fd fd(OK(open("f", O_RDWR | O_CREAT, 0644)));
  Pipe pipe;
  pipe.fill(bytes);
  EQ(moved(10'000, [&](size_t left) { return splice(pipe.ends[0], nullptr, fd, nullptr, left, 0); }),
     10'000u);
  EQ(lseek(fd, 0, SEEK_CUR), 10'000);
  TRUE(contents(seen("f")) == bytes.substr(0, 10'000));
  off64_t at = 5000;
  EQ(moved(20'000, [&](size_t left) { return splice(pipe.ends[0], nullptr, fd, &at, left, 0); }), 20'000u);
  EQ(at, 25'000);
  EQ(lseek(fd, 0, SEEK_CUR), 10'000);
  const std::string wanted = bytes.substr(0, 5000) + bytes.substr(10'000);
  TRUE(read_at(fd, 30'000, 0) == wanted);
  TRUE(contents(seen("f")) == wanted);
  Fd other(OK(open(seen("f").c_str(), O_RDWR)));  // beside what another has written into the same page
  EQ(pwrite(other, "other", 5, 100), 5);
  pipe.fill("mine");
  at = 105;
  EQ(splice(pipe.ends[0], nullptr, fd, &at, 4, 0), 4);
  EQ(read_at(other, 9, 100), "othermine");
  EQ(read_at(fd, 9, 100), "othermine");
}

TEST(splice, errors) {
  make_file("f", "content");
  OK(mkdir("d", 0755));
  Fd both(OK(open("f", O_RDWR))), reader(OK(open("f", O_RDONLY))), writer(OK(open("f", O_WRONLY))),
      append(OK(open("f", O_WRONLY | O_APPEND))), dir(OK(open("d", O_RDONLY)));
  Pipe pipe;
  pipe.fill("piped");
  off64_t at = 0;
  FAILS(EINVAL, splice(pipe.ends[0], nullptr, append, nullptr, 5, 0));
  FAILS(EINVAL, splice(pipe.ends[0], nullptr, append, &at, 5, 0));
  OK(fcntl(both, F_SETFL, O_APPEND));
  FAILS(EINVAL, splice(pipe.ends[0], nullptr, both, nullptr, 5, 0));
  FAILS(EINVAL, sendfile(both, reader, nullptr, 5));
  FAILS(EBADF, splice(pipe.ends[0], nullptr, reader, nullptr, 5, 0));
  FAILS(EBADF, splice(writer, nullptr, pipe.ends[1], nullptr, 5, 0));
  FAILS(EBADF, sendfile(pipe.ends[1], writer, nullptr, 5));
  FAILS(EBADF, sendfile(reader, reader, nullptr, 5));
  FAILS(EINVAL, splice(reader, nullptr, writer, nullptr, 5, 0));  // neither is a pipe
  FAILS(ESPIPE, splice(pipe.ends[0], &at, writer, nullptr, 5, 0));
  FAILS(EINVAL, splice(reader, nullptr, pipe.ends[1], nullptr, 5, 0x1000));
  FAILS(EINVAL, splice(dir, nullptr, pipe.ends[1], nullptr, 5, 0));
  FAILS(EINVAL, sendfile(pipe.ends[1], dir, nullptr, 5));
  at = -1;
  FAILS(EINVAL, splice(reader, &at, pipe.ends[1], nullptr, 5, 0));
  EQ(splice(reader, nullptr, pipe.ends[1], nullptr, 0, 0), 0);
  EQ(pipe.drained(), "piped");  // nothing of it was taken
  FAILS(EAGAIN, splice(pipe.ends[0], nullptr, writer, nullptr, 5, SPLICE_F_NONBLOCK));
  EQ(contents(seen("f")), "content");
}

std::string received(int socket, size_t length) {
  std::string out(length, '\0');
  const ssize_t got = recv(socket, out.data(), length, MSG_WAITALL | MSG_DONTWAIT);
  out.resize(size_t(std::max<ssize_t>(got, 0)));
  return out;
}

TEST(sendfile, to_a_socket) {
  const std::string bytes = numbered(30'000);
  make_file("f", bytes);
  Fd fd(OK(open(seen("f").c_str(), O_RDONLY)));
  int ends[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  off_t at = 3;
  EQ(moved(10'000, [&](size_t left) { return sendfile(ends[0], fd, &at, left); }), 10'000u);
  EQ(at, 10'003);
  EQ(lseek(fd, 0, SEEK_CUR), 0);  // an offset was given
  TRUE(received(ends[1], 20'000) == bytes.substr(3, 10'000));
  EQ(moved(5000, [&](size_t left) { return sendfile(ends[0], fd, nullptr, left); }), 5000u);
  EQ(lseek(fd, 0, SEEK_CUR), 5000);
  TRUE(received(ends[1], 20'000) == bytes.substr(0, 5000));
  at = 29'995;
  EQ(sendfile(ends[0], fd, &at, 1000), 5);
  EQ(sendfile(ends[0], fd, &at, 1000), 0);
  at = 1'000'000;
  EQ(sendfile(ends[0], fd, &at, 1000), 0);
  EQ(received(ends[1], 100), bytes.substr(29'995));
  at = -1;
  FAILS(EINVAL, sendfile(ends[0], fd, &at, 10));
}

TEST(sendfile, of_what_others_have_changed) {
  make_file("f", numbered(20'000));
  Fd fd(OK(open("f", O_RDONLY))), other(OK(open(seen("f").c_str(), O_RDWR)));
  int ends[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
  const auto sent = [&](off_t at, size_t length) {
    moved(length, [&](size_t left) { return sendfile(ends[0], fd, &at, left); });
    return received(ends[1], 30'000);
  };
  TRUE(sent(0, 20'000) == numbered(20'000));
  EQ(pwrite(other, "changed", 7, 0), 7);
  TRUE(sent(0, 20'000) == "changed" + numbered(20'000).substr(7));
  OK(ftruncate(other, 3));
  EQ(sent(0, 100), "cha");
  EQ(pwrite(other, "nged and longer", 15, 3), 15);
  EQ(info_of(fd).st_size, 18);
  EQ(sent(0, 100), "changed and longer");
  OK(unlink(seen("f").c_str()));
  EQ(sent(8, 3), "and");
}

}  // namespace
}  // namespace conformance
