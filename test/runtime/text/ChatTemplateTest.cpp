//===- ChatTemplateTest.cpp - Equality with jinja2, places and limits -------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// chat/ holds templates written after the published ones, small templates for single features, and
// what Python's jinja2 renders from them (make_chat_vectors.py).
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplate.h"

#include "runtime/base/File.h"
#include "runtime/base/Json.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <unistd.h>

using namespace sluice;
using ::testing::HasSubstr;
using ::testing::StartsWith;

namespace {

const std::string kDirectory = std::string(SLUICE_SOURCE_DIR) + "/test/runtime/text/chat/";

Result<std::string> render(const std::string &source, const json::Value &messages,
                           const json::Value &extra = {}, bool prompt = true, std::time_t now = 0) {
  SLUICE_ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplate::parse(source));
  return chat.render(messages, {.addGenerationPrompt = prompt, .extra = extra, .now = now});
}

std::string renderOrError(const std::string &source) {
  auto text = render(source, json::Value::array());
  return text.isOk() ? *text : text.status().toString();
}

StatusCode codeOf(const std::string &source) {
  return render(source, json::Value::array()).status().code();
}

class ChatVectors : public testing::Test {
protected:
  void SetUp() override {
    setenv("TZ", "UTC", 1);
    tzset();
    auto parsed = json::parseFile(kDirectory + "vectors.json");
    ASSERT_TRUE(parsed.isOk()) << parsed.status().toString();
    vectors = *parsed;
    now = static_cast<std::time_t>(*vectors.getInt("now"));
  }
  /// A vector has a text, or an error whose wording is Python's and not ours.
  void expect(const json::Value &vector, const Result<std::string> &actual,
              const std::string &what) {
    if (const json::Value *text = vector.find("text")) {
      ASSERT_TRUE(actual.isOk()) << what << ": " << actual.status().toString();
      EXPECT_EQ(*actual, *text->stringIf()) << what;
    } else {
      EXPECT_FALSE(actual.isOk()) << what << ": " << *actual;
    }
  }
  json::Value vectors;
  std::time_t now = 0;
};

TEST_F(ChatVectors, FamiliesRenderAsJinja) {
  std::map<std::string, std::string> sources;
  size_t texts = 0;
  for (const json::Value &vector : *vectors.find("families")->arrayIf()) {
    std::string family = *vector.getString("family");
    if (!sources.count(family)) {
      auto source = readFile(kDirectory + family + ".jinja");
      ASSERT_TRUE(source.isOk()) << source.status().toString();
      sources[family] = *source;
    }
    size_t conversation = static_cast<size_t>(*vector.getInt("conversation"));
    size_t extra = static_cast<size_t>(*vector.getInt("extra"));
    auto text = render(sources[family], (*vectors.find("conversations")->arrayIf())[conversation],
                       (*vectors.find("extras")->arrayIf())[extra], *vector.getBool("prompt"), now);
    expect(vector, text, family + ", conversation " + std::to_string(conversation));
    texts += text.isOk();
  }
  EXPECT_EQ(sources.size(), 14u);
  EXPECT_GT(texts, 900u);
}

TEST_F(ChatVectors, FeaturesRenderAsJinja) {
  for (const json::Value &vector : *vectors.find("snippets")->arrayIf()) {
    std::string source = *vector.getString("template");
    expect(vector,
           render(source, *vectors.find("snippet_messages"), *vectors.find("snippet_variables"),
                  true, now),
           source);
  }
}

TEST(ChatTemplateTest, ErrorsTellThePlace) {
  EXPECT_EQ(renderOrError("line\n  {{ 1 + }}"),
            "corrupt data: chat template: line 2, column 10: expected an expression, found '}}'");
  EXPECT_THAT(renderOrError("{{ 'x' |\n nofilter }}"),
              HasSubstr("line 2, column 2: no filter named 'nofilter'"));
  EXPECT_THAT(renderOrError("a\n{{ none.x.y }}"),
              HasSubstr("line 2, column 4: 'None' has no attribute 'x'"));
  EXPECT_THAT(renderOrError("{% include 'x' %}"),
              HasSubstr("the tag 'include' is unknown or not supported"));
  EXPECT_THAT(renderOrError("{% if x %}"), HasSubstr("expected '{% endif %}'"));
  EXPECT_THAT(renderOrError("{{ [].append(1) }}"), HasSubstr("list.append would change a value"));
  EXPECT_EQ(codeOf("{{ '\xFF' }}"), StatusCode::kDataCorrupt);
}

TEST(ChatTemplateTest, ATemplateMayRefuse) {
  auto text = render("{{ raise_exception('roles must alternate') }}", json::Value::array());
  EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.status().message()),
              HasSubstr("the template refuses this conversation: roles must alternate"));
}

TEST(ChatTemplateTest, ChecksItsInput) {
  auto chat = ChatTemplate::parse("{{ messages }}");
  ASSERT_TRUE(chat.isOk());
  EXPECT_EQ(chat->render(json::Value("hi")).status().code(), StatusCode::kInvalidArgument);
  json::Value messages = json::Value::array();
  messages.push("hi");
  EXPECT_THAT(chat->render(messages).status().toString(), HasSubstr("message 0 must be an object"));
  EXPECT_THAT(
      chat->render(json::Value::array(), {.addGenerationPrompt = true, .extra = json::Value(1)})
          .status()
          .toString(),
      HasSubstr("extra variables must be an object"));
}

TEST(ChatTemplateTest, EveryTemplateEnds) {
  const std::string range = "range(100000)";
  for (const std::string &hostile : std::vector<std::string>{
           "{% for a in " + range + " %}{% for b in " + range + " %}{% for c in " + range +
               " %}{% endfor %}{% endfor %}{% endfor %}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ range(100000000) }}",
           "{{ 'a' * 1000000000 }}", "{{ [0] * 1000000000 }}",
           "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(1000) %}"
           "{% set ns.s = ns.s + ns.s %}{% endfor %}",
           "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(1000) %}"
           "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
           "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(1000) %}"
           "{% set ns.s = ns.s | replace('a', 'aaaa') %}{% endfor %}",
           "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}"
           "{% endfor %}",
           "{% set ns = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
           "{% endfor %}{{ ns.x }}",
           "{% set ns = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
           "{% endfor %}{{ ns.x | tojson }}",
           "{% set a = namespace(x=[1]) %}{% set b = namespace(x=[1]) %}{% for i in range(60) %}"
           "{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}",
           "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "{{ '%1000000000d' % 1 }}",
           "{% set ns = namespace(x=0) %}{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}"})
    EXPECT_EQ(codeOf(hostile), StatusCode::kResourceExhausted)
        << hostile << "\n"
        << renderOrError(hostile).substr(0, 200);
}

TEST(ChatTemplateTest, DeepSourcesAreRefused) {
  auto repeated = [](const std::string &part, size_t count) {
    std::string text;
    for (size_t i = 0; i < count; ++i)
      text += part;
    return text;
  };
  for (const std::string &deep : std::vector<std::string>{
           "{{ " + repeated("(", 100000), "{{ " + repeated("[", 100000),
           "{{ " + repeated("not ", 100000) + "1 }}", "{{ " + repeated("-", 100000) + "1 }}",
           "{{ 1" + repeated(" + 1", 100000) + " }}", "{{ a" + repeated(".b", 100000) + " }}",
           "{{ a" + repeated("|string", 100000) + " }}", repeated("{% if 1 %}", 100000),
           "{{ 1" + repeated(" if 1 else 1", 100000) + " }}"})
    EXPECT_FALSE(ChatTemplate::parse(deep).isOk()) << deep.substr(0, 40);
}

class ModelDirectory : public testing::Test {
protected:
  void SetUp() override {
    directory = std::filesystem::temp_directory_path() /
                ("sluice-chat-" + std::to_string(::getpid()) + "-" +
                 testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(directory);
  }
  void TearDown() override { std::filesystem::remove_all(directory); }
  void write(const std::string &name, const std::string &content) {
    ASSERT_TRUE(writeFile(directory.string() + "/" + name, content).isOk());
  }
  std::string rendered() {
    auto chat = ChatTemplate::fromModel(directory.string());
    if (!chat.isOk())
      return chat.status().toString();
    auto text = chat->render(json::Value::array());
    return text.isOk() ? *text : text.status().toString();
  }
  std::filesystem::path directory;
};

TEST_F(ModelDirectory, ReadsTheConfiguration) {
  write("tokenizer_config.json",
        R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>",
            "pad_token": null, "chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}"})");
  EXPECT_EQ(rendered(), "<s></s>");
}

TEST_F(ModelDirectory, PrefersTheFile) {
  write("tokenizer_config.json", R"({"bos_token": "<s>", "chat_template": "config"})");
  write("chat_template.jinja", "file {{ bos_token }}\n");
  EXPECT_EQ(rendered(), "file <s>");
}

TEST_F(ModelDirectory, TakesTheDefaultOfSeveral) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "t"},
                              {"name": "default", "template": "d"}]})");
  EXPECT_EQ(rendered(), "d");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "t"}]})");
  EXPECT_THAT(rendered(), HasSubstr("none of the templates is named \"default\""));
}

TEST_F(ModelDirectory, SaysWhatIsMissing) {
  EXPECT_THAT(rendered(), StartsWith("not found: "));
  write("tokenizer_config.json", R"({"bos_token": 3})");
  EXPECT_THAT(rendered(), HasSubstr("key \"bos_token\": expected string"));
  write("tokenizer_config.json", "{");
  EXPECT_THAT(rendered(), HasSubstr("line 1"));
}

} // namespace
