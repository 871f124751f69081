//===- TokenizerTest.cpp - Equality with the reference and errors -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The example model's tokenizer against vectors made by Hugging Face `tokenizers`, and small
// tokenizers written here for what a file may get wrong.
//
//===------------------------------------------------------------------------===//
#include "sluice/tokenizer.h"

#include "runtime/base/Json.h"

#include <gmock/gmock.h>

#include <thread>

using namespace sluice;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

static std::string inSource(const std::string &path) {
  return std::string(SLUICE_SOURCE_DIR) + "/" + path;
}

static Tokenizer exampleTokenizer() {
  auto tokenizer = Tokenizer::fromFile(inSource("examples/moe-4m/tokenizer.json"));
  EXPECT_TRUE(tokenizer.isOk()) << tokenizer.status().toString();
  return *tokenizer;
}

/// A character-level model with the given members of the file around it.
static std::string smallFile(const std::string &members, const std::string &model = "") {
  return R"({"version": "1.0", )" + members + R"("model": {"type": "BPE", )" + model +
         R"("vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5, " ": 6}, )" +
         R"("merges": ["b c", "a b", ["a", "bc"]]}})";
}

static Result<Tokenizer> small(const std::string &members, const std::string &model = "") {
  return Tokenizer::fromJson(smallFile(members, model), "t.json");
}

static std::string errorOf(const std::string &members, const std::string &model = "") {
  auto tokenizer = small(members, model);
  return tokenizer.isOk() ? "ok" : tokenizer.status().toString();
}

TEST(TokenizerTest, EqualsTheReferenceOnEveryVector) {
  Tokenizer tokenizer = exampleTokenizer();
  auto vectors = json::parseFile(inSource("test/data/tokenizer_vectors.json"));
  ASSERT_TRUE(vectors.isOk());
  ASSERT_EQ(vectors->size(), 41u);
  for (const json::Value &vector : *vectors->arrayIf()) {
    const std::string &text = *vector.find("text")->stringIf();
    std::vector<int32_t> expected;
    for (const json::Value &id : *vector.find("ids")->arrayIf())
      expected.push_back(static_cast<int32_t>(*id.asInt()));
    auto ids = tokenizer.encode(text);
    ASSERT_TRUE(ids.isOk()) << ids.status().toString();
    EXPECT_EQ(*ids, expected) << text;
    EXPECT_EQ(*tokenizer.decode(expected, {.skipSpecialTokens = false}), text);
  }
}

TEST(TokenizerTest, ALongRunTakesLogLinearTime) {
  Tokenizer tokenizer = exampleTokenizer();
  std::string text(1'000'000, 'x');
  auto ids = tokenizer.encode(text);
  ASSERT_TRUE(ids.isOk());
  EXPECT_EQ(*tokenizer.decode(*ids), text);
}

TEST(TokenizerTest, ThreadsShareATokenizer) {
  Tokenizer tokenizer = exampleTokenizer();
  auto expected = tokenizer.encode("the same words for every thread, one after another");
  std::vector<std::thread> threads;
  std::vector<char> results(4);
  for (size_t t = 0; t < results.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i)
        results[t] |=
            *tokenizer.encode("the same words for every thread, one after another") != *expected;
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_THAT(results, ElementsAre(0, 0, 0, 0));
}

TEST(TokenizerTest, StreamNeverGivesPartOfACodePoint) {
  Tokenizer tokenizer = exampleTokenizer();
  std::string text = "caf\xC3\xA9 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 "
                     "\xE6\x97\xA5\xE6\x9C\xAC<|im_end|>";
  auto ids = tokenizer.encode(text);
  ASSERT_TRUE(ids.isOk());
  for (bool skip : {false, true}) {
    StreamDecoder stream(tokenizer, {.skipSpecialTokens = skip});
    std::string all;
    for (int32_t id : *ids) {
      auto part = stream.push(id);
      ASSERT_TRUE(part.isOk());
      EXPECT_TRUE(json::isValidUtf8(*part));
      all += *part;
    }
    EXPECT_EQ(stream.flush(), "");
    EXPECT_EQ(all, *tokenizer.decode(*ids, {.skipSpecialTokens = skip}));
    EXPECT_EQ(all, skip ? text.substr(0, text.size() - 10) : text);
  }
}

TEST(TokenizerTest, FlushReplacesWhatIsIncomplete) {
  Tokenizer tokenizer = exampleTokenizer();
  auto ids = tokenizer.encode("\xF0\x9F\x91\xA9");
  ASSERT_TRUE(ids.isOk());
  ASSERT_GT(ids->size(), 1u);
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(*stream.push((*ids)[0]), "");
  EXPECT_EQ(stream.flush(), "\xEF\xBF\xBD");
  EXPECT_EQ(*stream.push(*tokenizer.tokenId("a")), "a") << "a flushed stream is fresh";
}

TEST(TokenizerTest, InvalidBytesBecomeReplacementCharacters) {
  Tokenizer tokenizer = exampleTokenizer();
  EXPECT_EQ(*tokenizer.encode("a\xFF\xE2\x82z"), *tokenizer.encode("a\xEF\xBF\xBD\xEF\xBF\xBDz"));
}

TEST(TokenizerTest, LooksUpTokens) {
  Tokenizer tokenizer = exampleTokenizer();
  EXPECT_EQ(tokenizer.vocabSize(), 4096);
  EXPECT_EQ(tokenizer.tokenId("<|im_start|>"), 1);
  EXPECT_EQ(*tokenizer.tokenString(1), "<|im_start|>");
  EXPECT_TRUE(tokenizer.isSpecial(1));
  EXPECT_FALSE(tokenizer.isSpecial(100));
  EXPECT_FALSE(tokenizer.isSpecial(-1));
  EXPECT_EQ(tokenizer.tokenId("no such token"), std::nullopt);
}

TEST(TokenizerTest, RefusesIdsOutsideTheVocabulary) {
  Tokenizer tokenizer = exampleTokenizer();
  for (int32_t id : {-1, 4096, 1 << 30}) {
    std::vector<int32_t> ids = {id};
    auto text = tokenizer.decode(ids);
    ASSERT_FALSE(text.isOk());
    EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(text.status().message()),
                HasSubstr("token id " + std::to_string(id) + " is outside the vocabulary of 4096"));
    StreamDecoder stream(tokenizer);
    EXPECT_FALSE(stream.push(id).isOk());
    EXPECT_FALSE(tokenizer.tokenString(id).isOk());
  }
}

TEST(TokenizerTest, MergesByRankThenFromTheLeft) {
  auto tokenizer = small("");
  ASSERT_TRUE(tokenizer.isOk()) << tokenizer.status().toString();
  EXPECT_THAT(*tokenizer->encode("abc"), ElementsAre(4));
  EXPECT_THAT(*tokenizer->encode("abab"), ElementsAre(3, 3));
  EXPECT_THAT(*tokenizer->encode("zabz"), ElementsAre(3)) << "no unknown token: dropped";
  EXPECT_THAT(*tokenizer->encode(""), ElementsAre());
}

TEST(TokenizerTest, IgnoreMergesTakesWholeWords) {
  std::string file = R"({"model": {"type": "BPE", "ignore_merges": true,
    "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": []}})";
  EXPECT_THAT(*Tokenizer::fromJson(file, "t")->encode("ab"), ElementsAre(2));
  EXPECT_THAT(*Tokenizer::fromJson(file, "t")->encode("aba"), ElementsAre(0, 1, 0));
}

TEST(TokenizerTest, UnknownCharacters) {
  auto fused = small("", R"("unk_token": "c", "fuse_unk": true, )");
  EXPECT_THAT(*fused->encode("a??a"), ElementsAre(0, 2, 0));
  auto single = small("", R"("unk_token": "c", )");
  EXPECT_THAT(*single->encode("a??a"), ElementsAre(0, 2, 2, 0));
  auto missing = small("", R"("unk_token": "<unk>", )");
  EXPECT_THAT(missing->encode("a?").status().toString(),
              HasSubstr("needs the unknown token \"<unk>\""));
}

TEST(TokenizerTest, AddedTokensStripAndRespectWords) {
  auto with = [](const std::string &flag) {
    std::string entry = R"("id": 7, "content": "XY", "normalized": false, "special": true)";
    for (std::string name : {"single_word", "lstrip", "rstrip"})
      entry += ", \"" + name + "\": " + (name == flag ? "true" : "false");
    return *small("\"added_tokens\": [{" + entry + "}], ");
  };
  EXPECT_THAT(*with("lstrip").encode("a  XY b"), ElementsAre(0, 7, 6, 1));
  EXPECT_THAT(*with("rstrip").encode("a XY  b"), ElementsAre(0, 6, 7, 1));
  EXPECT_THAT(*with("single_word").encode("aXY XY"), ElementsAre(0, 6, 7));
}

TEST(TokenizerTest, NamesUnsupportedComponents) {
  EXPECT_THAT(errorOf(R"("pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Digits"}, {"type": "BertPreTokenizer"}]}, )"),
              HasSubstr("unsupported: t.json: key \"pre_tokenizer.pretokenizers[1]\": type "
                        "\"BertPreTokenizer\" is not supported; supported are Sequence"));
  EXPECT_THAT(errorOf(R"("normalizer": {"type": "Precompiled"}, )"), HasSubstr("\"Precompiled\""));
  EXPECT_THAT(errorOf(R"("decoder": {"type": "WordPiece"}, )"), HasSubstr("\"WordPiece\""));
  EXPECT_THAT(errorOf(R"("post_processor": {"type": "BertProcessing"}, )"),
              HasSubstr("\"BertProcessing\""));
  EXPECT_THAT(Tokenizer::fromJson(R"({"model": {"type": "Unigram"}})", "t").status().toString(),
              HasSubstr("model \"Unigram\" is not supported"));
  EXPECT_THAT(errorOf("", R"("dropout": 0.1, )"), HasSubstr("model.dropout"));
}

TEST(TokenizerTest, LocatesContradictions) {
  EXPECT_THAT(Tokenizer::fromFile("/nonexistent/tokenizer.json").status().toString(),
              HasSubstr("not found"));
  EXPECT_THAT(Tokenizer::fromJson("{", "t.json").status().toString(), HasSubstr("t.json: line 1"));
  EXPECT_THAT(Tokenizer::fromJson("{}", "t").status().toString(), HasSubstr("\"model\""));
  auto model = [](const std::string &vocab, const std::string &merges) {
    return Tokenizer::fromJson(R"({"model": {"type": "BPE", "vocab": )" + vocab +
                                   ", \"merges\": " + merges + "}}",
                               "t")
        .status()
        .toString();
  };
  EXPECT_THAT(model(R"({"a": 0, "b": 0})", "[]"), HasSubstr("share the id 0"));
  EXPECT_THAT(model(R"({"a": -1})", "[]"), HasSubstr("id -1 is outside"));
  EXPECT_THAT(model(R"({"a": 99999999999})", "[]"), HasSubstr("is outside 0 to"));
  EXPECT_THAT(model(R"({"a": "x"})", "[]"), HasSubstr("expected integer"));
  EXPECT_THAT(model(R"({"a": 0})", R"(["a b"])"),
              HasSubstr("merge 0: token \"b\" is not in the vocabulary"));
  EXPECT_THAT(model(R"({"a": 0})", R"(["a a"])"), HasSubstr("token \"aa\""));
  EXPECT_THAT(model(R"({"a": 0})", R"(["a"])"), HasSubstr("not two tokens"));
  EXPECT_THAT(model(R"({"a": 0})", "[3]"), HasSubstr("pair of strings"));
  EXPECT_THAT(errorOf(R"("added_tokens": [{"id": 9, "content": "X", "single_word": false,
      "lstrip": false, "rstrip": false, "normalized": false, "special": true}], )"),
              HasSubstr("added_tokens[0]\": id 9 of \"X\" contradicts its place, which gives 7"));
  EXPECT_THAT(errorOf(R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"},
      "behavior": "Isolated", "invert": false}, )"),
              HasSubstr("key \"pre_tokenizer.pattern\": unterminated group"));
}
