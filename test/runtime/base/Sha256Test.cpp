//===- Sha256Test.cpp - SHA-256 of buffers and files ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The vectors are those of FIPS 180-4 (NIST's examples).
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Sha256.h"

#include "TempDir.h"

#include <gtest/gtest.h>
#include <unistd.h>

using namespace sluice;

namespace {

std::vector<uint8_t> pattern(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 8));
  return bytes;
}

TEST(Sha256, KnownVectors) {
  EXPECT_EQ(toHex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(toHex(sha256("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(toHex(sha256(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheSameAndFinishStartsAnew) {
  std::vector<uint8_t> bytes = pattern(1000);
  Sha256 hash;
  for (size_t i = 0; i < bytes.size(); i += 7)
    hash.update(std::span<const uint8_t>(bytes).subspan(i, std::min<size_t>(7, bytes.size() - i)));
  EXPECT_EQ(hash.finish(), sha256(bytes));
  hash.update("abc");
  EXPECT_EQ(hash.finish(), sha256("abc"));
}

TEST(Sha256, Hexadecimal) {
  Sha256Digest digest = sha256("x");
  EXPECT_EQ(digestFromHex(toHex(digest)), digest);
  EXPECT_FALSE(digestFromHex(""));
  EXPECT_FALSE(digestFromHex(std::string(63, '0')));
  EXPECT_FALSE(digestFromHex(std::string(63, '0') + "g"));
  EXPECT_EQ(digestFromHex(std::string(64, 'F'))->front(), 0xff);
}

TEST(Sha256, FilesAndChunks) {
  test::TempDir dir;
  // Several pieces of the file reader per chunk, and a short last chunk.
  std::vector<uint8_t> bytes = pattern((size_t(5) << 20) + 123);
  Result<OutputFile> out = OutputFile::create(dir.file("f"));
  ASSERT_TRUE(out.isOk() && out->write(bytes).isOk() && out->close().isOk());
  EXPECT_EQ(*hashFile(dir.file("f")), sha256(bytes));

  Result<RandomAccessFile> file = RandomAccessFile::open(dir.file("f"));
  ASSERT_TRUE(file.isOk());
  for (uint64_t chunk : {uint64_t(2) << 20, uint64_t(bytes.size()), kHashChunkBytes}) {
    std::vector<Sha256Digest> expected;
    for (size_t i = 0; i < bytes.size(); i += static_cast<size_t>(chunk))
      expected.push_back(sha256(std::span<const uint8_t>(bytes).subspan(
          i, std::min<size_t>(static_cast<size_t>(chunk), bytes.size() - i))));
    for (unsigned threads : {0u, 1u, 4u}) {
      EXPECT_EQ(hashChunks(bytes, chunk, threads), expected);
      EXPECT_EQ(*hashChunks(*file, chunk, threads), expected);
    }
  }
  EXPECT_TRUE(hashChunks(std::span<const uint8_t>(), kHashChunkBytes, 4).empty());

  // A file that shrank is an error, not a different hash.
  ASSERT_EQ(::truncate(dir.file("f").c_str(), 1 << 20), 0);
  EXPECT_EQ(hashChunks(*file, 1 << 20, 2).status().code(), StatusCode::kDataCorrupt);
  EXPECT_EQ(hashFile(dir.file("missing")).status().code(), StatusCode::kNotFound);
}

} // namespace
