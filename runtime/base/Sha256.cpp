//===- Sha256.cpp - SHA-256 of buffers and files ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// libcrypto is used through its EVP interface, which picks the fastest code for the processor. Its
// configuration file is not read: a hash must not depend on how the machine is administered.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Sha256.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <thread>

namespace sluice {

void Sha256::Free::operator()(evp_md_ctx_st *context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() {
  static std::once_flag initialised;
  std::call_once(initialised, [] { OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr); });
  context.reset(EVP_MD_CTX_new());
  restart();
}
Sha256::Sha256(Sha256 &&) noexcept = default;
Sha256 &Sha256::operator=(Sha256 &&) noexcept = default;
Sha256::~Sha256() = default;

// The built-in SHA-256 fails for want of memory only.
static void checkMemory(bool ok) {
  if (!ok)
    throw std::bad_alloc();
}

void Sha256::restart() {
  checkMemory(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::update(const void *data, size_t bytes) {
  checkMemory(EVP_DigestUpdate(context.get(), data, bytes) == 1);
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest{};
  checkMemory(EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1);
  restart();
  return digest;
}

Sha256Digest sha256(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

Sha256Digest sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.finish();
}

std::string toHex(const Sha256Digest &digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * digest.size());
  for (uint8_t byte : digest) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

static int hexDigit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

std::optional<Sha256Digest> digestFromHex(std::string_view hex) {
  Sha256Digest digest{};
  if (hex.size() != 2 * digest.size())
    return std::nullopt;
  for (size_t i = 0; i < digest.size(); ++i) {
    int high = hexDigit(hex[2 * i]), low = hexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0)
      return std::nullopt;
    digest[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return digest;
}

/// Large enough to amortise the system call, small enough to stay in the cache.
static constexpr size_t kPieceBytes = size_t(1) << 20;

static Status hashRange(const RandomAccessFile &file, uint64_t offset, uint64_t bytes,
                        std::vector<uint8_t> &buffer, Sha256Digest &digest) {
  Sha256 hash;
  buffer.resize(kPieceBytes);
  while (bytes > 0) {
    size_t piece = static_cast<size_t>(std::min<uint64_t>(bytes, kPieceBytes));
    SLUICE_RETURN_IF_ERROR(file.read(offset, buffer.data(), piece));
    hash.update(buffer.data(), piece);
    offset += piece;
    bytes -= piece;
  }
  digest = hash.finish();
  return Status::ok();
}

Result<Sha256Digest> hashFile(const std::string &path) {
  SLUICE_ASSIGN_OR_RETURN(RandomAccessFile file, RandomAccessFile::open(path));
  std::vector<uint8_t> buffer;
  Sha256Digest digest{};
  SLUICE_RETURN_IF_ERROR(hashRange(file, 0, file.size(), buffer, digest));
  return digest;
}

/// Runs `work` on up to `threads` threads, this one included.
template <typename Work> static void runOnThreads(size_t threads, const Work &work) {
  std::vector<std::jthread> helpers;
  for (size_t i = 1; i < threads; ++i)
    helpers.emplace_back(work);
  work();
}

static size_t chunkCount(uint64_t bytes, uint64_t chunkBytes) {
  assert(chunkBytes > 0 && "a chunk needs a size");
  return static_cast<size_t>(bytes / chunkBytes + (bytes % chunkBytes != 0));
}

std::vector<Sha256Digest> hashChunks(std::span<const uint8_t> bytes, uint64_t chunkBytes,
                                     unsigned threads) {
  std::vector<Sha256Digest> digests(chunkCount(bytes.size(), chunkBytes));
  std::atomic<size_t> next = 0;
  runOnThreads(std::min<size_t>(threads, digests.size()), [&] {
    for (size_t i; (i = next.fetch_add(1)) < digests.size();) {
      size_t begin = static_cast<size_t>(i * chunkBytes);
      size_t size = static_cast<size_t>(std::min<uint64_t>(chunkBytes, bytes.size() - begin));
      digests[i] = sha256(bytes.subspan(begin, size));
    }
  });
  return digests;
}

Result<std::vector<Sha256Digest>> hashChunks(const RandomAccessFile &file, uint64_t chunkBytes,
                                             unsigned threads) {
  std::vector<Sha256Digest> digests(chunkCount(file.size(), chunkBytes));
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  Status failure;
  runOnThreads(std::min<size_t>(threads, digests.size()), [&] {
    std::vector<uint8_t> buffer;
    for (size_t i; (i = next.fetch_add(1)) < digests.size();) {
      uint64_t begin = i * chunkBytes;
      Status status =
          hashRange(file, begin, std::min(chunkBytes, file.size() - begin), buffer, digests[i]);
      if (status.isOk())
        continue;
      std::lock_guard lock(mutex);
      failure = status;
      next = digests.size();
    }
  });
  SLUICE_RETURN_IF_ERROR(failure);
  return digests;
}

} // namespace sluice
