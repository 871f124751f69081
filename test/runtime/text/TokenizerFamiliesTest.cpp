//===- TokenizerFamiliesTest.cpp - Every kind against frozen vectors --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// vectors/ holds, per kind of tokenizer, a small tokenizer.json and what Hugging Face `tokenizers`
// makes of some 650 awkward strings and 60 sequences of ids (make_vectors.py).
//
//===------------------------------------------------------------------------===//
#include "sluice/tokenizer.h"

#include "runtime/base/Json.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <sstream>

using namespace sluice;

namespace {

const std::string kDirectory = std::string(SLUICE_SOURCE_DIR) + "/test/runtime/text/vectors/";

std::vector<std::string> kinds() {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(kDirectory))
    if (entry.path().stem() != "strings")
      names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

json::Value read(const std::string &name) {
  auto value = json::parseFile(kDirectory + name + ".json");
  EXPECT_TRUE(value.isOk()) << value.status().toString();
  return value.isOk() ? *value : json::Value();
}

std::vector<int32_t> idsOf(const json::Value &text) {
  std::istringstream stream(*text.stringIf());
  std::vector<int32_t> ids;
  for (int32_t id; stream >> id;)
    ids.push_back(id);
  return ids;
}

std::string fromHex(const std::string &hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

class TokenizerFamilies : public testing::TestWithParam<std::string> {
protected:
  void SetUp() override {
    vectors = read(GetParam());
    ASSERT_TRUE(vectors.isObject());
    auto loaded = Tokenizer::fromJson(vectors.find("tokenizer")->dump(), GetParam());
    ASSERT_TRUE(loaded.isOk()) << loaded.status().toString();
    tokenizer = *loaded;
  }
  json::Value vectors;
  std::optional<Tokenizer> tokenizer;
};

TEST_P(TokenizerFamilies, EncodesAsTheReference) {
  json::Value strings = read("strings");
  std::vector<std::string> inputs;
  for (const json::Value &text : *strings.find("strings")->arrayIf())
    inputs.push_back(*text.stringIf());
  for (const json::Value &hex : *strings.find("ill_formed")->arrayIf())
    inputs.push_back(fromHex(*hex.stringIf()));
  const json::Array &expected = *vectors.find("ids")->arrayIf();
  ASSERT_EQ(inputs.size(), expected.size());
  ASSERT_GE(inputs.size(), 500u);
  for (size_t i = 0; i < inputs.size(); ++i) {
    auto ids = tokenizer->encode(inputs[i]);
    ASSERT_TRUE(ids.isOk()) << ids.status().toString();
    EXPECT_EQ(*ids, idsOf(expected[i])) << "string " << i << ": " << inputs[i];
  }
}

TEST_P(TokenizerFamilies, DecodesAsTheReference) {
  for (const json::Value &sample : *vectors.find("decode")->arrayIf()) {
    const json::Array &fields = *sample.arrayIf();
    std::vector<int32_t> ids = idsOf(fields[0]);
    for (bool skip : {false, true}) {
      const std::string &expected = *fields[skip ? 2 : 1].stringIf();
      auto text = tokenizer->decode(ids, {.skipSpecialTokens = skip});
      ASSERT_TRUE(text.isOk()) << text.status().toString();
      EXPECT_EQ(*text, expected) << fields[0].dump();
    }
  }
}

TEST_P(TokenizerFamilies, StreamsWhatItDecodes) {
  json::Value strings = read("strings");
  for (const json::Value &text : *strings.find("strings")->arrayIf()) {
    auto ids = tokenizer->encode(*text.stringIf());
    ASSERT_TRUE(ids.isOk());
    StreamDecoder stream(*tokenizer, {.skipSpecialTokens = false});
    std::string all;
    for (int32_t id : *ids) {
      auto part = stream.push(id);
      ASSERT_TRUE(part.isOk());
      ASSERT_TRUE(json::isValidUtf8(*part));
      all += *part;
    }
    all += stream.flush();
    EXPECT_EQ(all, *tokenizer->decode(*ids, {.skipSpecialTokens = false}));
  }
}

INSTANTIATE_TEST_SUITE_P(Vectors, TokenizerFamilies, testing::ValuesIn(kinds()),
                         [](const auto &info) { return info.param; });

TEST(StreamDecoderTest, ByteFallbackGivesCharactersAsSoonAsTheyAreComplete) {
  auto loaded = Tokenizer::fromJson(read("mixtral").find("tokenizer")->dump(), "mixtral");
  ASSERT_TRUE(loaded.isOk());
  StreamDecoder stream(*loaded);
  auto byte = [](int value) { return 3 + value; }; // <0x00> follows <unk>, <s>, </s>
  EXPECT_EQ(*stream.push(byte(0xE6)), "");
  EXPECT_EQ(*stream.push(byte(0xB0)), "");
  EXPECT_EQ(*stream.push(byte(0xB4)), "\xE6\xB0\xB4");
  EXPECT_EQ(*stream.push(byte(0xFF)), "\xEF\xBF\xBD") << "ill-formed: one U+FFFD per byte";
  EXPECT_EQ(*stream.push(byte('a')), "\xEF\xBF\xBD") << "as for the whole run";
  EXPECT_EQ(*stream.push(*loaded->tokenId("\xE2\x96\x81")), " ");
  EXPECT_EQ(*stream.push(byte(0xC3)), "");
  EXPECT_EQ(stream.flush(), "\xEF\xBF\xBD");
}

TEST(StreamDecoderTest, OnlyTheFirstSpaceIsStripped) {
  auto loaded = Tokenizer::fromJson(read("mixtral").find("tokenizer")->dump(), "mixtral");
  ASSERT_TRUE(loaded.isOk());
  int32_t space = *loaded->tokenId("\xE2\x96\x81");
  StreamDecoder stream(*loaded);
  EXPECT_EQ(*stream.push(space), "");
  EXPECT_EQ(*stream.push(space), " ");
  EXPECT_EQ(stream.flush(), "");
}

} // namespace
