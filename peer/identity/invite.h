// Invites, and the request by which a peer joins on the strength of one. Pure: any thread.
//
// An invite is a secret: who has it may join, as often and as long as its certificate says, and knows the
// mesh secret. It holds a key pair made for it alone; an administrator's signature over the public half,
// with role, rights, end and uses, is the certificate. The joining peer signs its own key with the invite's
// secret half. Whether that is enough is decided by RegisterState, from the register and the owner's clock.
//
// Text: efs://HOST:PORT/INVITE, INVITE being base64url of: format byte 1, CRC-32C (4 bytes, little-endian)
// of the rest, msgpack. About 450 characters.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "peer/base/encoding.h"
#include "peer/identity/envelope.h"

namespace efs {

enum class Role : uint8_t {
  server = 1,  // may own volumes, hold chunks, and say which of its local users asks
  client = 2,  // acts only for users who log in on it, holds nothing, only dials out
};
std::string_view name_of(Role role);

// The uids that a server may speak for, both ends included. The default is none.
struct UidRange {
  uint32_t first = 1;
  uint32_t last = 0;
  bool contains(uint32_t uid) const { return first <= uid && uid <= last; }
  static constexpr UidRange all() { return {0, UINT32_MAX}; }
  static constexpr auto fields() {
    return std::tuple{field("a", &UidRange::first), field("b", &UidRange::last)};
  }
};
// "1000-1999", "1000", "all"; fails for people.
Result<UidRange> parse_uid_range(std::string_view text);
std::string to_text(const UidRange& range);

struct Rights {
  bool operate = false;            // create, place and drop volumes on other peers
  UidRange uids;                   // servers only
  std::vector<std::string> under;  // prefixes below which this peer may make volumes on itself
  static constexpr auto fields() {
    return std::tuple{field("o", &Rights::operate), field("u", &Rights::uids), field("p", &Rights::under)};
  }
};
std::string under_text(const Rights& rights);  // "/a, /b", or "nothing"
// Fails on a bad prefix, too many of them, or rights that the role cannot have.
Status check_rights(Role role, const Rights& rights);

struct Certificate {
  uint32_t format = 1;
  PublicKey invite{};
  Role role = Role::server;
  Rights rights;
  int64_t expires_ns = 0;  // wall time, compared with the stamp of the root volume's owner only
  uint32_t uses = 1;
  static constexpr auto fields() {
    return std::tuple{field("f", &Certificate::format),     field("k", &Certificate::invite),
                      field("r", &Certificate::role),       field("g", &Certificate::rights),
                      field("e", &Certificate::expires_ns), field("u", &Certificate::uses)};
  }
};
// Reads a certificate's body and checks its shape, not who signed it.
Result<Certificate> read_certificate(ByteView body);

// Holds two secrets: the mesh's, and the invite key's.
struct Invite {
  std::vector<std::string> addresses;
  Id mesh{};
  Secret mesh_secret;  // 32 bytes
  KeyPair key;
  Envelope certificate;  // of a Certificate, signed by an administrator
};

// Fails when the certificate's content is out of bounds; `administrator` is checked by who admits.
Result<Invite> make_invite(std::vector<std::string> addresses, const Id& mesh, const Secret& mesh_secret,
                           Certificate certificate, const KeyPair& administrator, Random& random);

// INVITE alone. The returned text is a secret too.
std::string to_text(const Invite& invite);
// efs://ADDRESS/INVITE, with the first of its addresses.
std::string to_seed(const Invite& invite);
// Reads INVITE or a whole seed, with white space around it (a file's content). Fails, for people, on what
// is no invite, is damaged, or has another format; checks that certificate, key and mesh belong together.
Result<Invite> parse_invite(std::string_view text);

struct Seed {
  std::string address;           // "HOST:PORT", not parsed further
  std::optional<Invite> invite;  // nothing for "HOST:PORT" alone
};
Result<Seed> parse_seed(std::string_view text);

// ---- joining ----

struct JoinRequest {
  uint32_t format = 1;
  Id mesh{};
  PublicKey key{};   // the peer's own
  std::string name;  // as it would like to be called; the owner may add a number
  std::vector<std::string> addresses;
  int64_t wall_ns = 0;   // the joining peer's clock
  Envelope certificate;  // from the invite
  static constexpr auto fields() {
    return std::tuple{field("f", &JoinRequest::format),     field("m", &JoinRequest::mesh),
                      field("k", &JoinRequest::key),        field("n", &JoinRequest::name),
                      field("a", &JoinRequest::addresses),  field("t", &JoinRequest::wall_ns),
                      field("c", &JoinRequest::certificate)};
  }
};

// Signed by the invite's secret half and by the joining peer, over the same bytes.
struct SignedJoin {
  Bytes body;
  Signature by_invite{};
  Signature by_peer{};
  static constexpr auto fields() {
    return std::tuple{field("b", &SignedJoin::body), field("i", &SignedJoin::by_invite),
                      field("p", &SignedJoin::by_peer)};
  }
};

SignedJoin make_join(const Invite& invite, std::string name, std::vector<std::string> addresses,
                     int64_t wall_ns, const KeyPair& peer);

struct CheckedJoin {
  JoinRequest request;
  Certificate certificate;
};
// Shape, mesh and the two signatures (skipped when `trusted`: an entry of one's own disk). The register
// decides the rest.
Result<CheckedJoin> read_join(const SignedJoin& join, const Id& mesh, bool trusted = false);

Status check_addresses(const std::vector<std::string>& addresses);

}  // namespace efs
