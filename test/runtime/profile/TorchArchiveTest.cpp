//===- TorchArchiveTest.cpp - Expert counts in files of torch.save ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// recorder.pt has the layout of an SGLang dump as torch.save writes it: a stored zip with a pickle
// of protocol 2 that rebuilds an int64 tensor [2, 3, 4], layer 0 zero, elsewhere 100 w + 10 l + e.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/TorchArchive.h"

#include "runtime/base/File.h"
#include "runtime/profile/ProfileFile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace sluice;
using testing::HasSubstr;

namespace {

std::string recorder() { return *readFile(SLUICE_SOURCE_DIR "/test/runtime/profile/recorder.pt"); }

/// A stored zip archive of two entries, written by hand.
std::string archive(const std::string &pickle, uint16_t method = 0,
                    const std::string &data = std::string(64, '\1')) {
  std::string file, directory;
  auto put = [](std::string &to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) // fields beyond 64 bits are several, all zero
      to += i < 8 ? static_cast<char>(value >> (8 * i)) : '\0';
  };
  int count = 0;
  for (auto &[name, content] : {std::pair<std::string, std::string>{"a/data.pkl", pickle},
                                std::pair<std::string, std::string>{"a/data/0", data}}) {
    size_t at = file.size();
    file += "PK\3\4";
    put(file, 0, 4), put(file, method, 2), put(file, 0, 8);
    put(file, content.size(), 4), put(file, content.size(), 4), put(file, name.size(), 2);
    put(file, 0, 2);
    file += name + content;
    directory += "PK\1\2";
    put(directory, 0, 6), put(directory, method, 2), put(directory, 0, 8);
    put(directory, content.size(), 4), put(directory, content.size(), 4);
    put(directory, name.size(), 2), put(directory, 0, 12), put(directory, at, 4);
    directory += name;
    ++count;
  }
  size_t start = file.size();
  file += directory + "PK\5\6";
  put(file, 0, 4), put(file, count, 2), put(file, count, 2), put(file, directory.size(), 4);
  put(file, start, 4), put(file, 0, 2);
  return file;
}

/// A pickle of {"logical_count": tensor} with these small numbers, each below 256.
std::string tensorPickle(const std::string &storage, int elements, int offset,
                         const std::string &sizes, const std::string &strides) {
  auto number = [](int value) { return std::string("K") + static_cast<char>(value); };
  auto text = [](const std::string &s) {
    return std::string("\x8c") + static_cast<char>(s.size()) + s;
  };
  std::string dims = "(", steps = "(";
  for (char c : sizes)
    dims += number(c);
  for (char c : strides)
    steps += number(c);
  return "\x80\x02}" + text("logical_count") + "ctorch._utils\n_rebuild_tensor_v2\n(" + "(" +
         text("storage") + "ctorch\n" + storage + "\n" + text("0") + text("cpu") +
         number(elements) + "tQ" + number(offset) + dims + "t" + steps + "t" +
         "\x89"
         "ccollections\nOrderedDict\n)RtRs.";
}

std::string refusal(const std::string &bytes, StatusCode code = StatusCode::kDataCorrupt) {
  Result<Profile> profile = parseTorchProfile(bytes, "f.pt");
  EXPECT_FALSE(profile.isOk());
  EXPECT_EQ(profile.status().code(), code) << profile.status().toString();
  EXPECT_THAT(std::string(profile.status().message()), HasSubstr("f.pt"));
  return std::string(profile.status().message());
}

TEST(TorchArchive, ReadsWhatTheRecorderDumps) {
  Result<Profile> profile = readProfile(SLUICE_SOURCE_DIR "/test/runtime/profile/recorder.pt");
  ASSERT_TRUE(profile.isOk()) << profile.status().toString();
  EXPECT_EQ(profile->windows, 2);
  EXPECT_EQ(profile->layers, 3);
  EXPECT_EQ(profile->experts, 4);
  EXPECT_TRUE(profile->isDense(0));
  EXPECT_EQ(profile->at(1, 2)[3], 123);
  EXPECT_EQ(profile->at(0, 1)[0], 10);
}

TEST(TorchArchive, FollowsStrides) {
  std::string data(8, '\0');
  for (int i = 0; i < 8; ++i)
    data[i] = static_cast<char>(i);
  std::string transposed = tensorPickle("ByteStorage", 8, 1, {2, 3}, {1, 2});
  Result<Profile> profile = parseTorchProfile(archive(transposed, 0, data), "f.pt");
  ASSERT_TRUE(profile.isOk()) << profile.status().toString();
  EXPECT_EQ(profile->counts, (std::vector<double>{1, 3, 5, 2, 4, 6}));
}

TEST(TorchArchive, SurvivesEveryTruncationAndEveryChangedByte) {
  std::string bytes = recorder();
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(parseTorchProfile(std::string_view(bytes).substr(0, size), "f.pt").isOk()) << size;
  int refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      refused += !parseTorchProfile(changed, "f.pt").isOk();
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(TorchArchive, RefusesWhatIsNoTensorOfCounts) {
  EXPECT_THAT(refusal(""), HasSubstr("no central directory"));
  EXPECT_THAT(refusal(archive("\x80\x02}.")), HasSubstr("no tensor \"logical_count\""));
  EXPECT_THAT(refusal(archive("\x80\x02}\x8c\x07records]s."), StatusCode::kUnsupported),
              HasSubstr("per-token records"));
  EXPECT_THAT(refusal(archive("}.", 8), StatusCode::kUnsupported), HasSubstr("compressed"));
  EXPECT_THAT(refusal(archive("cos\nsystem\n(\x8c\x02lstR.")),
              HasSubstr("it wants to call \"os system\""));
  EXPECT_THAT(refusal(archive("i")), HasSubstr("opcode 105"));
  EXPECT_THAT(refusal(archive("\x80\x02}")), HasSubstr("ends before its STOP"));
  EXPECT_THAT(refusal(archive(".")), HasSubstr("leaves no value"));
  EXPECT_THAT(refusal(archive("t.")), HasSubstr("mark is missing"));
  EXPECT_THAT(refusal(archive("h\x05.")), HasSubstr("never remembered"));
  EXPECT_THAT(refusal(archive("}(K\1u.")), HasSubstr("key has no value"));
  EXPECT_THAT(refusal(archive("NQ.")), HasSubstr("no storage"));
  EXPECT_THAT(refusal(archive("\x8a\x20" + std::string(32, '\1') + ".")), HasSubstr("32 bytes"));

  auto tensor = [](const std::string &storage, int elements, int offset, const std::string &sizes,
                   const std::string &strides) {
    return archive(tensorPickle(storage, elements, offset, sizes, strides));
  };
  EXPECT_THAT(refusal(tensor("LongStorage", 6, 1, {2, 3}, {3, 1})),
              HasSubstr("outside its storage of 6"));
  EXPECT_THAT(refusal(tensor("LongStorage", 200, 0, {20, 10}, {10, 1})),
              HasSubstr("too few for \"logical_count\""));
  EXPECT_THAT(refusal(tensor("LongStorage", 6, 0, {6}, {1})), HasSubstr("rank 1"));
  EXPECT_THAT(refusal(tensor("LongStorage", 6, 0, {2, 3}, {1})), HasSubstr("rank 2"));
  EXPECT_THAT(refusal(tensor("HalfStorage", 6, 0, {2, 3}, {3, 1}), StatusCode::kUnsupported),
              HasSubstr("HalfStorage"));
}

} // namespace
