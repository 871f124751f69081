//===- SafetensorsTest.cpp - Reading and writing safetensors files ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Hostile headers are written out by hand, one lie each; the error must name the lie. What we write
// is read back by our own strict reader, whose rules are those of the reference implementation.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"

#include "test/runtime/base/TempDir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string withLength(uint64_t length, const std::string &rest) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i)
    bytes[i] = static_cast<char>(length >> (8 * i));
  return bytes + rest;
}

/// A file with that header and `dataBytes` bytes of data.
std::string fileBytes(const std::string &header, size_t dataBytes) {
  return withLength(header.size(), header + std::string(dataBytes, 'd'));
}

Result<SafetensorsHeader> parse(const std::string &file) {
  return SafetensorsHeader::parse({reinterpret_cast<const uint8_t *>(file.data()), file.size()},
                                  file.size(), "m.safetensors");
}

std::string parseError(const std::string &file) {
  Result<SafetensorsHeader> header = parse(file);
  EXPECT_FALSE(header.isOk()) << file.substr(8, 200);
  EXPECT_EQ(header.status().code(), StatusCode::kDataCorrupt) << header.status().toString();
  std::string message(header.status().message());
  EXPECT_EQ(message.rfind("m.safetensors: ", 0), 0u) << message;
  return message;
}

std::string tensor(const std::string &name, const std::string &dtype, const std::string &shape,
                   const std::string &offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

TEST(Safetensors, ReadsAHeader) {
  std::string text = "{" + tensor("b", "BF16", "[2,3]", "[4,16]") +
                     ",\"__metadata__\":{\"format\":\"pt\"}," + tensor("a", "F32", "[]", "[0,4]") +
                     "," + tensor("none", "F32", "[0,7]", "[4,4]") + "}   ";
  Result<SafetensorsHeader> header = parse(fileBytes(text, 16));
  ASSERT_TRUE(header.isOk()) << header.status().toString();
  EXPECT_EQ(header->dataStart(), 8 + text.size());
  std::vector<std::string> names;
  for (const SafetensorsTensor &entry : header->tensors())
    names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("a", "none", "b"));
  const SafetensorsTensor *b = header->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, DataType::kBF16);
  EXPECT_THAT(b->shape, ElementsAre(2, 3));
  EXPECT_EQ(b->offset, header->dataStart() + 4);
  EXPECT_EQ(b->bytes, 12u);
  EXPECT_EQ(header->find("c"), nullptr);
  EXPECT_EQ(header->metadata().at("format"), "pt");
}

TEST(Safetensors, AcceptsAFileWithoutTensors) {
  Result<SafetensorsHeader> header = parse(fileBytes("{}", 0));
  ASSERT_TRUE(header.isOk()) << header.status().toString();
  EXPECT_TRUE(header->tensors().empty());
}

TEST(Safetensors, RefusesTruncatedHeaders) {
  std::string file = fileBytes("{" + tensor("a", "U8", "[100]", "[0,100]") + "}", 100);
  for (size_t size = 0; size < file.size(); ++size)
    parseError(file.substr(0, size));
  EXPECT_THAT(parseError(file.substr(0, 7)), HasSubstr("7 bytes are too few for a header"));
  EXPECT_THAT(parseError(file.substr(0, 20)),
              HasSubstr("exceeds the 12 bytes after it; the file is truncated"));
  EXPECT_THAT(parseError(file.substr(0, file.size() - 1)),
              HasSubstr("tensor \"a\": data_offsets [0, 100] exceed the file's 99 data bytes"));
  EXPECT_THAT(parseError(file + "x"), HasSubstr("its tensors end at byte"));
  EXPECT_TRUE(parse(file).isOk());
}

TEST(Safetensors, RefusesLyingLengths) {
  EXPECT_THAT(parseError(withLength(UINT64_MAX, "{}")),
              HasSubstr("exceeds the limit of 100000000"));
  EXPECT_THAT(parseError(withLength(kMaxSafetensorsHeaderBytes, "{}")), HasSubstr("truncated"));
  EXPECT_THAT(parseError(withLength(0, "{}")), HasSubstr("does not begin with {"));
  parseError(withLength(1, "{}"));
}

TEST(Safetensors, RefusesInvalidJson) {
  EXPECT_THAT(parseError(fileBytes("{\"a\":", 0)), HasSubstr("header: line 1, column 6: "));
  EXPECT_THAT(parseError(fileBytes("[]", 0)), HasSubstr("does not begin with {"));
  EXPECT_THAT(parseError(fileBytes(" {}", 0)), HasSubstr("does not begin with {"));
  EXPECT_THAT(parseError(fileBytes("{}x", 0)), HasSubstr("column 3"));
  EXPECT_THAT(parseError(fileBytes("{\"a\xff\":1}", 0)), HasSubstr("UTF-8"));
  std::string once = tensor("a", "U8", "[1]", "[0,1]");
  EXPECT_THAT(parseError(fileBytes("{" + once + "," + once + "}", 1)),
              HasSubstr("duplicate key \"a\""));
}

TEST(Safetensors, RefusesMalformedTensors) {
  struct Case {
    std::string entry, expected;
  };
  for (const Case &c : std::vector<Case>{
           {"\"a\":7", "tensor \"a\": expected object, found integer"},
           {"\"a\":{}", "key \"dtype\" is missing"},
           {tensor("a", "F12", "[1]", "[0,8]"), "unknown dtype \"F12\""},
           {"\"a\":{\"dtype\":7,\"shape\":[8],\"data_offsets\":[0,8]}",
            "key \"dtype\": expected string, found integer"},
           {tensor("a", "U8", "8", "[0,8]"), "key \"shape\": expected array"},
           {tensor("a", "U8", "[8.0]", "[0,8]"), "key \"shape[0]\": expected integer"},
           {tensor("a", "U8", "[-8,-1]", "[0,8]"), "negative extent -8"},
           {tensor("a", "U8", "[4294967296,4294967296]", "[0,0]"), "more elements than"},
           {tensor("a", "F32", "[4611686018427387905]", "[0,4]"), "more elements than"},
           {tensor("a", "U8", "[18446744073709551616]", "[0,0]"), "expected integer, found number"},
           {tensor("a", "F4", "[15]", "[0,8]"), "does not fill whole bytes of dtype F4"},
           {tensor("a", "U8", "[8]", "[0]"), "data_offsets has 1 numbers"},
           {tensor("a", "U8", "[8]", "[0,8,8]"), "data_offsets has 3 numbers"},
           {tensor("a", "U8", "[8]", "[-1,7]"), "data_offsets [-1, 7] is no range"},
           {tensor("a", "U8", "[8]", "[8,0]"), "data_offsets [8, 0] is no range"},
           {tensor("a", "U8", "[8]", "[1,9]"),
            "data_offsets [1, 9] exceed the file's 8 data bytes"},
           {tensor("a", "U8", "[8]", "[0,9223372036854775807]"), "exceed the file's 8 data bytes"},
           {tensor("a", "U8", "[8]", "[0,18446744073709551615]"), "exceeds the limit"},
           {tensor("a", "F32", "[1]", "[0,8]"), "span 8 bytes, but dtype and shape need 4"},
           {"\"__metadata__\":[]", "__metadata__: expected object, found array"},
           {"\"__metadata__\":{\"k\":1}", "__metadata__ \"k\": expected string, found integer"},
       })
    EXPECT_THAT(parseError(fileBytes("{" + c.entry + "}", 8)), HasSubstr(c.expected));
}

TEST(Safetensors, RefusesOverlapsAndHoles) {
  auto two = [](const char *first, const char *second) {
    return fileBytes(
        "{" + tensor("a", "U8", "[8]", first) + "," + tensor("b", "U8", "[8]", second) + "}", 16);
  };
  EXPECT_TRUE(parse(two("[0,8]", "[8,16]")).isOk());
  EXPECT_TRUE(parse(two("[8,16]", "[0,8]")).isOk());
  EXPECT_THAT(
      parseError(two("[0,8]", "[7,15]")),
      HasSubstr("tensor \"b\": begins at data offset 7 and overlaps tensor \"a\", which ends "
                "at 8"));
  EXPECT_THAT(parseError(two("[0,8]", "[0,8]")), HasSubstr("overlaps"));
  std::string hole = fileBytes(
      "{" + tensor("a", "U8", "[4]", "[0,4]") + "," + tensor("b", "U8", "[4]", "[8,12]") + "}", 12);
  EXPECT_THAT(parseError(hole), HasSubstr("tensor \"b\": begins at data offset 8 and leaves a hole "
                                          "after data offset 4"));
  EXPECT_THAT(parseError(fileBytes("{" + tensor("b", "U8", "[4]", "[4,8]") + "}", 8)),
              HasSubstr("hole after data offset 0"));
}

TEST(Safetensors, OpensFiles) {
  test::TempDir dir;
  std::string path = dir.file("m.safetensors");
  ASSERT_TRUE(writeFile(path, fileBytes("{" + tensor("a", "U8", "[5]", "[0,5]") + "}", 5)).isOk());
  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.isOk()) << file.status().toString();
  const SafetensorsTensor *a = file->find("a");
  ASSERT_NE(a, nullptr);
  Result<std::vector<uint8_t>> content = file->read(*a);
  ASSERT_TRUE(content.isOk());
  EXPECT_THAT(*content, ElementsAre('d', 'd', 'd', 'd', 'd'));
  uint8_t piece[8];
  EXPECT_TRUE(file->read(*a, 2, piece, 3).isOk());
  EXPECT_EQ(file->read(*a, 2, piece, 4).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(file->read(*a, 6, piece, 0).code(), StatusCode::kInvalidArgument);

  EXPECT_EQ(SafetensorsFile::open(dir.file("none")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(SafetensorsFile::open(dir.path()).status().code(), StatusCode::kIo);
  ASSERT_TRUE(writeFile(path, "short").isOk());
  Status status = SafetensorsFile::open(path).status();
  EXPECT_EQ(status.code(), StatusCode::kDataCorrupt);
  EXPECT_EQ(status.message(), path + ": 5 bytes are too few for a header; the file is truncated");
}

TEST(Safetensors, OpeningReadsNoData) {
  // A sparse file of one terabyte opens like a small one.
  test::TempDir dir;
  std::string path = dir.file("huge.safetensors");
  std::string header =
      fileBytes("{" + tensor("a", "U8", "[1099511627776]", "[0,1099511627776]") + "}", 0);
  ASSERT_TRUE(writeFile(path, header).isOk());
  if (::truncate(path.c_str(), static_cast<off_t>(header.size() + (uint64_t(1) << 40))) != 0)
    GTEST_SKIP() << "the file system has no files of this size";
  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.isOk()) << file.status().toString();
  EXPECT_EQ(file->find("a")->bytes, uint64_t(1) << 40);
}

std::vector<uint8_t> pattern(size_t size, uint8_t seed) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<uint8_t>(i * 7 + seed);
  return bytes;
}

/// Writes three tensors and an empty one; returns the summary.
Result<SafetensorsSummary> writeSample(const std::string &path, std::vector<uint64_t> &offsets) {
  SafetensorsWriter writer;
  SLUICE_RETURN_IF_ERROR(writer.setMetadata("producer", "test"));
  for (auto &[name, dtype, shape] :
       std::vector<std::tuple<std::string, DataType, std::vector<int64_t>>>{
           {"layers.0.w", DataType::kBF16, {100, 50}},
           {"empty", DataType::kF32, {0, 4}},
           {"page", DataType::kU8, {4096}},
           {"q\"uote", DataType::kF32, {3}}}) {
    SLUICE_ASSIGN_OR_RETURN(uint64_t offset, writer.declare(name, dtype, shape));
    offsets.push_back(offset);
  }
  EXPECT_EQ(writer.dataBytes(), 16384u + 12);
  SLUICE_ASSIGN_OR_RETURN(OutputFile out, OutputFile::create(path));
  SLUICE_RETURN_IF_ERROR(writer.begin(std::move(out)));
  std::vector<uint8_t> first = pattern(10000, 1);
  std::span<const uint8_t> rest = first;
  for (size_t piece : {1, 4999, 5000}) {
    SLUICE_RETURN_IF_ERROR(writer.append("layers.0.w", rest.first(piece)));
    rest = rest.subspan(piece);
  }
  SLUICE_RETURN_IF_ERROR(writer.append("page", pattern(4096, 2)));
  SLUICE_RETURN_IF_ERROR(writer.append("q\"uote", pattern(12, 3)));
  return writer.finish();
}

TEST(SafetensorsWriter, WritesPageAlignedFilesThatReadBack) {
  test::TempDir dir;
  std::string path = dir.file("w.safetensors");
  std::vector<uint64_t> offsets;
  Result<SafetensorsSummary> summary = writeSample(path, offsets);
  ASSERT_TRUE(summary.isOk()) << summary.status().toString();
  EXPECT_THAT(offsets, ElementsAre(0, 12288, 12288, 16384));

  Result<SafetensorsFile> file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.isOk()) << file.status().toString();
  EXPECT_EQ(file->dataStart(), summary->dataStart);
  EXPECT_EQ(file->fileSize(), summary->fileBytes);
  EXPECT_EQ(file->metadata().at("producer"), "test");
  size_t pads = 0;
  for (const SafetensorsTensor &entry : file->tensors()) {
    if (isSafetensorsPadding(entry.name)) {
      ++pads;
      EXPECT_EQ(*file->read(entry), std::vector<uint8_t>(static_cast<size_t>(entry.bytes)));
    } else {
      EXPECT_EQ(entry.offset % kSafetensorsAlignment, 0u) << entry.name;
    }
  }
  EXPECT_EQ(pads, 1u);
  const char *names[] = {"layers.0.w", "empty", "page", "q\"uote"};
  size_t sizes[] = {10000, 0, 4096, 12};
  uint8_t seeds[] = {1, 0, 2, 3};
  for (size_t i = 0; i < 4; ++i) {
    const SafetensorsTensor *entry = file->find(names[i]);
    ASSERT_NE(entry, nullptr) << names[i];
    EXPECT_EQ(entry->offset, file->dataStart() + offsets[i]);
    EXPECT_EQ(*file->read(*entry), pattern(sizes[i], seeds[i]));
  }
  EXPECT_THAT(file->find("layers.0.w")->shape, ElementsAre(100, 50));
}

TEST(SafetensorsWriter, IsDeterministicAndHashesWhatItWrites) {
  test::TempDir dir;
  std::vector<uint64_t> offsets;
  Result<SafetensorsSummary> one = writeSample(dir.file("1"), offsets);
  Result<SafetensorsSummary> two = writeSample(dir.file("2"), offsets);
  ASSERT_TRUE(one.isOk() && two.isOk());
  EXPECT_EQ(*readFile(dir.file("1")), *readFile(dir.file("2")));
  EXPECT_EQ(one->sha256, *hashFile(dir.file("1")));
  EXPECT_EQ(one->sha256, two->sha256);
  EXPECT_THAT(one->chunkSha256, ElementsAre(one->sha256));
}

TEST(SafetensorsWriter, HashesChunks) {
  test::TempDir dir;
  std::string path = dir.file("large");
  SafetensorsWriter writer;
  // The file is one chunk and a bit: data that crosses the chunk's end in the middle of a piece.
  std::vector<uint8_t> bytes = pattern(static_cast<size_t>(kHashChunkBytes), 9);
  ASSERT_TRUE(writer.declare("t", DataType::kU8, {static_cast<int64_t>(bytes.size())}).isOk());
  Result<OutputFile> out = OutputFile::create(path);
  ASSERT_TRUE(out.isOk());
  ASSERT_TRUE(writer.begin(std::move(*out)).isOk());
  ASSERT_TRUE(writer.append("t", bytes).isOk());
  Result<SafetensorsSummary> summary = writer.finish();
  ASSERT_TRUE(summary.isOk());
  Result<RandomAccessFile> file = RandomAccessFile::open(path);
  ASSERT_TRUE(file.isOk());
  EXPECT_EQ(summary->chunkSha256.size(), 2u);
  EXPECT_EQ(summary->chunkSha256, *hashChunks(*file, kHashChunkBytes, 2));
}

TEST(SafetensorsWriter, WritesAFileWithoutTensors) {
  test::TempDir dir;
  SafetensorsWriter writer;
  Result<OutputFile> out = OutputFile::create(dir.file("none"));
  ASSERT_TRUE(out.isOk());
  ASSERT_TRUE(writer.begin(std::move(*out)).isOk());
  Result<SafetensorsSummary> summary = writer.finish();
  ASSERT_TRUE(summary.isOk());
  EXPECT_EQ(summary->fileBytes, 4096u);
  EXPECT_TRUE(SafetensorsFile::open(dir.file("none")).isOk());
}

TEST(SafetensorsWriter, RefusesBadDeclarations) {
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.declare("a", DataType::kF32, {2}).isOk());
  auto expectRefused = [&](const std::string &name, DataType dtype, std::vector<int64_t> shape,
                           const char *reason) {
    Status status = writer.declare(name, dtype, std::move(shape)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
  };
  expectRefused("a", DataType::kF32, {2}, "declared twice");
  expectRefused("__metadata__", DataType::kF32, {2}, "reserved");
  expectRefused("_pad.3", DataType::kF32, {2}, "reserved");
  expectRefused("\xff", DataType::kF32, {2}, "not UTF-8");
  expectRefused("b", DataType::kF32, {-1}, "negative");
  expectRefused("b", DataType::kU8, {INT64_MAX}, "too large");
  expectRefused("b", DataType::kF4E2M1, {1}, "whole bytes");
  EXPECT_EQ(writer.dataBytes(), 8u) << "a refused declaration leaves nothing behind";
  EXPECT_FALSE(writer.setMetadata("k", "\xff").isOk());
}

TEST(SafetensorsWriter, RefusesCallsOutOfOrder) {
  test::TempDir dir;
  std::vector<uint8_t> bytes(8);
  SafetensorsWriter writer;
  EXPECT_FALSE(writer.finish().isOk());
  EXPECT_FALSE(writer.append("a", bytes).isOk());
  ASSERT_TRUE(writer.declare("a", DataType::kU8, {8}).isOk());
  ASSERT_TRUE(writer.declare("b", DataType::kU8, {8}).isOk());
  Result<OutputFile> used = OutputFile::create(dir.file("used"));
  ASSERT_TRUE(used.isOk() && used->write("x").isOk());
  EXPECT_FALSE(writer.begin(std::move(*used)).isOk());
  Result<OutputFile> out = OutputFile::create(dir.file("f"));
  ASSERT_TRUE(out.isOk() && writer.begin(std::move(*out)).isOk());
  EXPECT_FALSE(writer.declare("c", DataType::kU8, {8}).isOk());
  EXPECT_FALSE(writer.setMetadata("k", "v").isOk());
  EXPECT_THAT(std::string(writer.append("b", bytes).message()),
              HasSubstr("the next bytes belong to tensor \"a\""));
  EXPECT_THAT(std::string(writer.append("a", std::vector<uint8_t>(9)).message()),
              HasSubstr("9 bytes exceed its 8"));
  ASSERT_TRUE(writer.append("a", bytes).isOk());
  Status unfinished = writer.finish().status();
  EXPECT_EQ(unfinished.message(), "tensor \"b\" has 0 of its 8 bytes");
  ASSERT_TRUE(writer.append("b", bytes).isOk());
  EXPECT_THAT(std::string(writer.append("b", bytes).message()),
              HasSubstr("every tensor is complete"));
  EXPECT_TRUE(writer.finish().isOk());
}

TEST(SafetensorsWriter, ReportsAFullDisk) {
  if (::access("/dev/full", W_OK) != 0)
    GTEST_SKIP() << "no /dev/full here";
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.declare("a", DataType::kU8, {8}).isOk());
  Result<OutputFile> out = OutputFile::create("/dev/full");
  ASSERT_TRUE(out.isOk() && writer.begin(std::move(*out)).isOk());
  ASSERT_TRUE(writer.append("a", std::vector<uint8_t>(8)).isOk()) << "still buffered";
  EXPECT_EQ(writer.finish().status().code(), StatusCode::kResourceExhausted);
}

} // namespace
