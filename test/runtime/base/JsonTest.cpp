//===- JsonTest.cpp - JSON parsing, access and writing ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Error texts are compared as users see them: position and key path are what makes them useful.
//
//===------------------------------------------------------------------------===//
#include "runtime/base/Json.h"

#include "TempDir.h"
#include "runtime/base/File.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

using namespace sluice;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

namespace {

json::Value parsed(std::string_view text) {
  Result<json::Value> value = json::parse(text, "test");
  EXPECT_TRUE(value.isOk()) << value.status().toString();
  return value.isOk() ? *value : json::Value();
}

std::string parseError(std::string_view text) {
  Result<json::Value> value = json::parse(text, "f.json");
  EXPECT_FALSE(value.isOk()) << text;
  EXPECT_EQ(value.status().code(), StatusCode::kDataCorrupt);
  return std::string(value.status().message());
}

template <typename T> std::string message(const Result<T> &result) {
  return std::string(result.status().message());
}

TEST(Json, ParsesEveryKind) {
  json::Value v = parsed(
      R"( {"n":null,"t":true,"i":-7,"u":18446744073709551615,"d":1.5e3,"s":"a\u00e9\ud83d\ude00\n","a":[1,[2],{}]} )");
  EXPECT_TRUE(v.find("n")->isNull());
  EXPECT_EQ(*v.getBool("t"), true);
  EXPECT_EQ(*v.getInt("i"), -7);
  EXPECT_EQ(v.find("u")->kind(), json::Kind::kUnsigned);
  EXPECT_EQ(*v.find("u")->asUnsigned(), UINT64_MAX);
  EXPECT_EQ(*v.getDouble("d"), 1500.0);
  EXPECT_EQ(*v.getDouble("i"), -7.0);
  EXPECT_EQ(*v.getString("s"), "a\xc3\xa9\xf0\x9f\x98\x80\n");
  EXPECT_EQ(v.find("a")->size(), 3u);
  EXPECT_EQ(v.find("absent"), nullptr);
  EXPECT_EQ(v.find("i")->find("x"), nullptr);
}

TEST(Json, KeepsTheOrderOfMembers) {
  std::vector<std::string> keys;
  json::Value v = parsed(R"({"z":1,"a":2,"m":3})");
  for (const json::Member &member : *v.objectIf())
    keys.push_back(member.key);
  EXPECT_THAT(keys, ElementsAre("z", "a", "m"));
}

TEST(Json, FindsMembersOfLargeObjects) {
  json::Value v;
  for (int i = 0; i < 1000; ++i)
    v.set("key" + std::to_string(i), i);
  json::Value copy = v;
  v.set("key500", -1);
  EXPECT_EQ(v.size(), 1000u);
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(*copy.getInt("key" + std::to_string(i)), i);
  EXPECT_EQ(*v.getInt("key500"), -1);
  EXPECT_EQ(copy.find("key1000"), nullptr);
  EXPECT_TRUE(parsed(copy.dump()) == copy);
  EXPECT_FALSE(v == copy);
}

TEST(Json, ErrorsCarryLineAndColumn) {
  EXPECT_THAT(parseError("\n[1 2]"), StartsWith("f.json: line 2, column 4: "));
  EXPECT_THAT(parseError("{\n  \"a\": 1,\n  \"b\": tru }"),
              StartsWith("f.json: line 3, column 11: "));
  EXPECT_THAT(parseError("{\"a\" 1}"), StartsWith("f.json: line 1, column 6: "));
  EXPECT_THAT(parseError(""), StartsWith("f.json: line 1, column 1: "));
  EXPECT_THAT(parseError("[1, 2"), HasSubstr("unexpected end of input"));
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char *text : {"{", "[1,]", "{\"a\":1,}", "nul", "01", "1 2", "// c\n1", "'a'", "NaN",
                           "\"\\ud800\"", "\"\n\"", "1e999", "[1}", "+1", ".5"})
    parseError(text);
}

TEST(Json, RefusesDuplicateKeys) {
  EXPECT_EQ(parseError("{\"a\": 1,\n \"a\": 2}"), "f.json: line 2, column 4: duplicate key \"a\"");
  std::string many = "{";
  for (int i = 0; i < 50; ++i)
    many += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_THAT(parseError(many + "\"k7\":1}"), HasSubstr("duplicate key \"k7\""));
  // The same key in different objects is none.
  parsed(R"([{"a":1},{"a":{"a":2}}])");
}

TEST(Json, LimitsNesting) {
  auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  parsed(nested(json::kMaxDepth));
  EXPECT_THAT(parseError(nested(json::kMaxDepth + 1)),
              HasSubstr("nesting exceeds the limit of 256"));
  parseError(std::string(1000000, '['));
}

TEST(Json, RefusesInvalidUtf8) {
  for (const char *bytes : {"\x80", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                            "\xf0\x80\x80\x80", "\xc3"}) {
    parseError("\"" + std::string(bytes) + "\"");
    EXPECT_FALSE(json::isValidUtf8(bytes));
  }
  for (const char *bytes :
       {"", "abc", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(json::isValidUtf8(bytes));
}

TEST(Json, ErrorsQuoteALongTokenShortened) {
  EXPECT_LT(parseError("\"" + std::string(1 << 20, 'x')).size(), 400u);
  std::string key(1 << 20, 'k');
  EXPECT_LT(parseError("{\"" + key + "\":1,\"" + key + "\":1}").size(), 400u);
}

TEST(Json, GettersNameDocumentAndPath) {
  json::Value v = parsed(
      R"({"hidden_size":"64","rope":{"factor":"x","deep":[{"k":1.5}]},"big":9223372036854775808,"ints":[1,2,"3"],"null":null})");
  json::Cursor root(v, "config.json");
  EXPECT_EQ(message(root.getInt("hidden_size")),
            "config.json: key \"hidden_size\": expected integer, found string");
  EXPECT_EQ(message(root.getInt("layers")), "config.json: key \"layers\" is missing");
  EXPECT_EQ(root.getInt("layers").status().code(), StatusCode::kNotFound);
  Result<json::Cursor> rope = root.getObject("rope");
  ASSERT_TRUE(rope.isOk());
  EXPECT_EQ(message(rope->getDouble("factor")),
            "config.json: key \"rope.factor\": expected number, found string");
  EXPECT_EQ(message(rope->getInt("theta")), "config.json: key \"rope.theta\" is missing");
  Result<json::Cursor> element = rope->getArray("deep")->element(0);
  ASSERT_TRUE(element.isOk());
  EXPECT_EQ(message(element->getInt("k")),
            "config.json: key \"rope.deep[0].k\": expected integer, found number");
  EXPECT_EQ(message(rope->getArray("deep")->element(1)),
            "config.json: key \"rope.deep\": element 1 does not exist, the array has 1");
  EXPECT_THAT(message(root.getInt("big")), HasSubstr("exceeds the limit 9223372036854775807"));
  EXPECT_EQ(message(root.getIntArray("ints")),
            "config.json: key \"ints[2]\": expected integer, found string");
  EXPECT_EQ(message(root.getArray("rope")),
            "config.json: key \"rope\": expected array, found object");
  EXPECT_EQ(message(root.getObject("ints")),
            "config.json: key \"ints\": expected object, found array");
  EXPECT_EQ(rope->error("is wrong").message(), "config.json: key \"rope\": is wrong");
  EXPECT_EQ(message(v.getBool("ints")), "key \"ints\": expected boolean, found array");
  EXPECT_EQ(message(json::Cursor(*v.find("ints")).getInt("x")), "expected object, found array");
}

TEST(Json, FallbacksServeMissingAndNullOnly) {
  json::Value v = parsed(R"({"n":null,"i":3,"s":"x","b":false,"d":0.5})");
  json::Cursor root(v, "c");
  EXPECT_EQ(*root.getIntOr("absent", 5), 5);
  EXPECT_EQ(*root.getIntOr("n", 5), 5);
  EXPECT_EQ(*root.getIntOr("i", 5), 3);
  EXPECT_FALSE(root.getIntOr("s", 5).isOk());
  EXPECT_EQ(*root.getBoolOr("b", true), false);
  EXPECT_EQ(*root.getDoubleOr("d", 1), 0.5);
  EXPECT_EQ(*root.getStringOr("absent", "y"), "y");
  EXPECT_FALSE(root.has("n"));
  EXPECT_TRUE(root.has("i"));
}

TEST(Json, ArraysOfOneKind) {
  json::Value v = parsed(R"({"i":[1,-2],"d":[1,2.5],"s":["a","b"]})");
  json::Cursor root(v, "c");
  EXPECT_THAT(*root.getIntArray("i"), ElementsAre(1, -2));
  EXPECT_THAT(*root.getDoubleArray("d"), ElementsAre(1.0, 2.5));
  EXPECT_THAT(*root.getStringArray("s"), ElementsAre("a", "b"));
}

TEST(Json, WritesDeterministically) {
  json::Value v;
  v.set("s", "q\"\\\n\t\x01\xc3\xa9");
  v.set("i", -3);
  v.set("u", UINT64_MAX);
  json::Value &list = v.set("list", json::Value::array());
  list.push(true);
  list.push(nullptr);
  v.set("empty", json::Value::object());
  EXPECT_EQ(v.dump(),
            "{\"s\": \"q\\\"\\\\\\n\\t\\u0001\xc3\xa9\", \"i\": -3, \"u\": 18446744073709551615, "
            "\"list\": [true, null], \"empty\": {}}");
  EXPECT_EQ(parsed("{\"a\":[1,{\"b\":[]}]}").dump(2),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ]\n}");
}

TEST(Json, DoublesRoundTrip) {
  for (double d : {0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, 1e22, 123456789.125, 1.0 / 3}) {
    json::Value back = parsed(json::Value(d).dump());
    EXPECT_EQ(back.kind(), json::Kind::kDouble) << json::Value(d).dump();
    EXPECT_EQ(*back.asDouble(), d);
  }
  EXPECT_EQ(json::Value(0.1).dump(), "0.1");
  EXPECT_EQ(json::Value(64.0).dump(), "64.0");
  EXPECT_EQ(json::Value(std::numeric_limits<double>::infinity()).dump(), "null");
}

TEST(Json, ReplacesInvalidUtf8WhenWriting) {
  EXPECT_EQ(json::Value("a\xff"
                        "b")
                .dump(),
            "\"a\xef\xbf\xbd"
            "b\"");
}

TEST(Json, AssignsFromItsOwnDescendant) {
  json::Value v = parsed(R"({"a":{"b":[1]}})");
  v = json::Value(*v.find("a"));
  EXPECT_EQ(v.dump(), "{\"b\": [1]}");
  json::Value moved = std::move(v);
  v = moved;
  v.set("c", 2);
  EXPECT_EQ(v.size(), 2u);
  EXPECT_EQ(moved.size(), 1u);
}

TEST(Json, ParsesFiles) {
  test::TempDir dir;
  ASSERT_TRUE(writeFile(dir.file("a.json"), "{\"a\": ]").isOk());
  EXPECT_THAT(message(json::parseFile(dir.file("a.json"))),
              StartsWith(dir.file("a.json") + ": line 1, column 7: "));
  EXPECT_EQ(json::parseFile(dir.file("b.json")).status().code(), StatusCode::kNotFound);
}

} // namespace
