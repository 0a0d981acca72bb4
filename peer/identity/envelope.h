// Bytes with one signature: how entries, proposals, certificates and records travel.
//
// The body stays the bytes that were signed, on every hop and in every store; nothing is encoded again to
// check it. The signature covers the domain, the mesh and the body, so that what was signed for one use or
// one mesh is garbage in another. Pure: any thread.
#pragma once

#include <tuple>

#include "peer/base/encoding.h"
#include "peer/identity/keys.h"

namespace efs {

struct Envelope {
  Bytes body;
  PublicKey signer{};
  Signature signature{};
  static constexpr auto fields() {
    return std::tuple{field("b", &Envelope::body), field("k", &Envelope::signer),
                      field("s", &Envelope::signature)};
  }
};

inline constexpr std::string_view kCertificateDomain = "efs invite certificate 1";
inline constexpr std::string_view kJoinDomain = "efs join request 1";
inline constexpr std::string_view kProposalDomain = "efs register proposal 1";
inline constexpr std::string_view kEntryDomain = "efs register entry 1";
inline constexpr std::string_view kEpochDomain = "efs volume epoch 1";
inline constexpr std::string_view kRecordDomain = "efs record 1";

// The signature alone, and its check, for bodies that have several.
Signature sign_in_mesh(std::string_view domain, const Id& mesh, ByteView body, const KeyPair& key);
bool verify_in_mesh(const PublicKey& key, std::string_view domain, const Id& mesh, ByteView body,
                    const Signature& signature);

Envelope seal(std::string_view domain, const Id& mesh, Bytes body, const KeyPair& key);
bool is_authentic(std::string_view domain, const Id& mesh, const Envelope& envelope);

}  // namespace efs
