//===- ConfigKeysTest.cpp - No configuration key is silently ignored --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// config_keys/ lists, per family, the keys that its configuration class and its published
// configurations know, each with a value other than the base configuration's and what must come of
// it: `honoured`, the imported module differs; `neutral`, it is the same, for the reason given;
// `refused`, an error names the key. `given` are settings that the comparison needs on both sides;
// null stands for a key that is absent. Keys of every family are in common.json.
//
// The lists come from the configuration classes of Hugging Face transformers 4.57 and 5.23 and the
// publishers' config.json.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/ModelImporter.h"
#include "runtime/base/File.h"
#include "runtime/base/Json.h"
#include "test/runtime/base/TempDir.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringRef.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

using namespace mlir;
using namespace sluice;
using namespace sluice::test;
using testing::Contains;
using testing::HasSubstr;

namespace {

const std::string kSource = SLUICE_SOURCE_DIR;
const std::string kLists = kSource + "/test/compiler/importers/config_keys";

json::Value readJson(const std::string &path) {
  Result<std::string> text = readFile(path);
  if (!text.isOk()) {
    ADD_FAILURE() << text.status().toString();
    return json::Value::object();
  }
  Result<json::Value> value = json::parse(*text, path);
  if (value.isOk())
    return std::move(*value);
  ADD_FAILURE() << value.status().toString();
  return json::Value::object();
}

/// One line of a list.
struct KeyCase {
  std::string key, outcome, why;
  json::Value value, given;
};

/// A list: what is tried on which configuration.
struct KeyList {
  std::string family;
  bool common = true; ///< common.json applies too
  json::Value config;
  std::vector<KeyCase> cases;
};

std::vector<KeyCase> readCases(const json::Value &list) {
  std::vector<KeyCase> cases;
  const json::Value *keys = list.find("keys");
  EXPECT_TRUE(keys && keys->arrayIf());
  for (const json::Value &row : *keys->arrayIf()) {
    auto text = [&](const char *name) {
      const json::Value *value = row.find(name);
      return value && value->stringIf() ? *value->stringIf() : std::string();
    };
    KeyCase entry{text("key"), text("outcome"), text("why"), {}, json::Value::object()};
    EXPECT_FALSE(entry.key.empty()) << row.dump();
    if (const json::Value *value = row.find("value"))
      entry.value = *value;
    if (const json::Value *given = row.find("given"))
      entry.given = *given;
    cases.push_back(std::move(entry));
  }
  return cases;
}

KeyList readList(const std::string &name) {
  json::Value file = readJson(kLists + "/" + name + ".json");
  KeyList list;
  if (const json::Value *family = file.find("family"))
    list.family = *family->stringIf();
  if (const json::Value *common = file.find("common"))
    list.common = *common->asBool();
  if (const json::Value *config = file.find("config"))
    list.config = *config;
  else if (const json::Value *base = file.find("base"))
    list.config = readJson(kSource + "/" + *base->stringIf());
  list.cases = readCases(file);
  return list;
}

/// The names of the lists, without common.
std::vector<std::string> listNames() {
  std::vector<std::string> names;
  for (const auto &file : std::filesystem::directory_iterator(kLists))
    if (file.path().stem() != "common")
      names.push_back(file.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

/// Sets the member at a path of keys.
void setPath(json::Value &config, llvm::StringRef path, const json::Value &value) {
  auto [head, tail] = path.split('.');
  if (tail.empty()) {
    config.set(std::string_view(head), value);
    return;
  }
  json::Object *object = config.objectIf();
  json::Value *inner = object->find(std::string_view(head));
  if (!inner || !inner->isObject())
    inner = &config.set(std::string_view(head), json::Value::object());
  setPath(*inner, tail, value);
}

/// Paths of all members, those of nested objects instead of the objects themselves.
void collectPaths(const json::Value &config, const std::string &prefix,
                  std::set<std::string> &paths) {
  for (const json::Member &member : *config.objectIf()) {
    std::string path = prefix + member.key;
    if (member.value.isObject() && member.value.size() > 0)
      collectPaths(member.value, path + ".", paths);
    else
      paths.insert(std::move(path));
  }
}

class ConfigKeys : public testing::TestWithParam<std::string> {
protected:
  ConfigKeys() {
    context.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) {
      errors.push_back(diagnostic.str());
      return success();
    });
  }

  /// The module at phase `input`, as text; empty when the import fails.
  std::string import(const json::Value &config) {
    errors.clear();
    TempDir dir;
    std::string folder = dir.file("model");
    std::filesystem::create_directory(folder);
    EXPECT_TRUE(writeFile(folder + "/config.json", config.dump(2)).isOk());
    FailureOr<Checkpoint> checkpoint = openCheckpoint(folder, /*synthetic=*/true, context);
    if (failed(checkpoint))
      return "";
    FailureOr<OwningOpRef<ModuleOp>> module = importCheckpoint(*checkpoint, {}, context);
    if (failed(module))
      return "";
    std::string text;
    llvm::raw_string_ostream stream(text);
    (*module)->print(stream);
    return text;
  }

  void check(json::Value config, const KeyCase &entry) {
    for (const json::Member &member : *entry.given.objectIf())
      setPath(config, member.key, member.value);
    std::string &before = bases[config.dump()];
    if (before.empty())
      before = import(config);
    ASSERT_FALSE(before.empty()) << testing::PrintToString(errors);
    setPath(config, entry.key, entry.value);
    std::string after = import(config);
    if (entry.outcome == "refused") {
      EXPECT_TRUE(after.empty()) << "imported all the same";
      std::string leaf = entry.key.substr(entry.key.rfind('.') + 1);
      EXPECT_THAT(errors, Contains(HasSubstr(leaf)));
      return;
    }
    ASSERT_FALSE(after.empty()) << testing::PrintToString(errors);
    if (entry.outcome == "honoured") {
      EXPECT_NE(after, before) << "the module is the same";
    } else {
      ASSERT_EQ(entry.outcome, "neutral");
      EXPECT_FALSE(entry.why.empty()) << "no reason given";
      EXPECT_EQ(after, before);
    }
  }

  MLIRContext context;
  std::vector<std::string> errors;
  std::map<std::string, std::string> bases; ///< modules by configuration, before the change
};

TEST_P(ConfigKeys, ChangeTheModelOrAreRefused) {
  KeyList list = readList(GetParam());
  std::vector<KeyCase> cases = list.cases;
  if (list.common)
    for (KeyCase &entry : readCases(readJson(kLists + "/common.json")))
      cases.push_back(std::move(entry));
  for (const KeyCase &entry : cases) {
    SCOPED_TRACE(entry.key + " = " + entry.value.dump() + ", given " + entry.given.dump());
    check(list.config, entry);
  }
}

INSTANTIATE_TEST_SUITE_P(Lists, ConfigKeys, testing::ValuesIn(listNames()),
                         [](const auto &info) { return info.param; });

TEST(ConfigKeyLists, EveryFamilyHasOne) {
  std::set<std::string> listed;
  for (const std::string &name : listNames())
    listed.insert(readList(name).family);
  for (const ModelFamily &family : allModelFamilies())
    EXPECT_TRUE(listed.contains(family.name.str())) << family.name.str();
}

/// The configurations that the repository holds, of reference checkpoints and of published models.
std::vector<std::string> configurations() {
  std::vector<std::string> files;
  for (const char *folder : {"/test/data/golden", "/examples"})
    for (const auto &file : std::filesystem::recursive_directory_iterator(kSource + folder))
      if (file.path().filename() == "config.json")
        files.push_back(file.path());
  return files;
}

TEST(ConfigKeyLists, HoldEveryKeyOfEveryConfiguration) {
  std::map<std::string, std::set<std::string>> keys; // by family
  for (const std::string &name : listNames()) {
    KeyList list = readList(name);
    for (const KeyCase &entry : list.cases)
      keys[list.family].insert(entry.key);
    for (const KeyCase &entry : readCases(readJson(kLists + "/common.json")))
      keys[list.family].insert(entry.key);
  }
  for (const std::string &file : configurations()) {
    json::Value config = readJson(file);
    std::vector<std::string> architectures =
        *json::Cursor(config, "config.json").getStringArray("architectures");
    for (const ModelFamily &family : allModelFamilies()) {
      if (!llvm::is_contained(family.architectures, llvm::StringRef(architectures.front())))
        continue;
      const std::set<std::string> &listed = keys[family.name.str()];
      // A list may name an object as a whole.
      auto isListed = [&](llvm::StringRef path) {
        for (; !path.empty(); path = path.rsplit('.').first) {
          if (listed.contains(path.str()))
            return true;
          if (!path.contains('.'))
            return false;
        }
        return false;
      };
      std::set<std::string> paths;
      collectPaths(config, "", paths);
      for (llvm::StringRef path : paths) {
        path.consume_front("text_config.");
        EXPECT_TRUE(isListed(path)) << file << ": " << path.str();
      }
    }
  }
}

} // namespace
