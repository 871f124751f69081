//===- Sha256.h - SHA-256 of buffers and files ------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The artifact names every file's SHA-256. The work is libcrypto's, which uses the processor's SHA
// instructions; large files are hashed in chunks so that a loader can verify them on all cores.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_BASE_SHA256_H
#define SLUICE_RUNTIME_BASE_SHA256_H

#include "runtime/base/File.h"
#include "sluice/status.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct evp_md_ctx_st;

namespace sluice {

using Sha256Digest = std::array<uint8_t, 32>;

/// The granularity of chunk hashes in artifacts.
inline constexpr uint64_t kHashChunkBytes = uint64_t(64) << 20;

/// Incremental SHA-256. Not thread-safe.
class Sha256 {
public:
  Sha256();
  Sha256(Sha256 &&) noexcept;
  Sha256 &operator=(Sha256 &&) noexcept;
  ~Sha256();

  void update(const void *data, size_t bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }
  void update(std::span<const uint8_t> bytes) { update(bytes.data(), bytes.size()); }
  /// The digest of everything since construction or the last finish(); starts anew.
  Sha256Digest finish();

private:
  struct Free {
    void operator()(evp_md_ctx_st *context) const;
  };
  void restart();
  std::unique_ptr<evp_md_ctx_st, Free> context;
};

/// The digest of one buffer.
Sha256Digest sha256(std::span<const uint8_t> bytes);
Sha256Digest sha256(std::string_view text);

/// 64 lower-case hexadecimal digits.
std::string toHex(const Sha256Digest &digest);
/// Nothing when `hex` is not 64 hexadecimal digits.
std::optional<Sha256Digest> digestFromHex(std::string_view hex);

/// The digest of a whole file.
Result<Sha256Digest> hashFile(const std::string &path);

/// Digests of the chunks [0, chunkBytes), [chunkBytes, 2 chunkBytes), ... of `bytes`, the last one
/// shorter; none for no bytes. Runs on up to `threads` threads (at least one, the caller's).
/// `chunkBytes` must not be 0.
std::vector<Sha256Digest> hashChunks(std::span<const uint8_t> bytes, uint64_t chunkBytes,
                                     unsigned threads);
/// The same for a file, read in pieces: memory stays at about 1 MiB per thread.
Result<std::vector<Sha256Digest>> hashChunks(const RandomAccessFile &file, uint64_t chunkBytes,
                                             unsigned threads);

} // namespace sluice

#endif // SLUICE_RUNTIME_BASE_SHA256_H
