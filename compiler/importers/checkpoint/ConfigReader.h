//===- ConfigReader.h - Every key of config.json accounted for ----*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A setting that an importer does not know may change what the model computes, and a model that is
// computed wrongly still produces fluent text. So the reader remembers which keys were asked for,
// and whatever remains must be in a list of keys known not to matter; anything else is an error.
// Errors are collected rather than returned, so that a family reads its whole configuration in
// straight-line code and the user sees everything that is wrong at once.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_CHECKPOINT_CONFIGREADER_H
#define SLUICE_COMPILER_IMPORTERS_CHECKPOINT_CONFIGREADER_H

#include "runtime/base/Json.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// One thing that is wrong with a configuration.
struct ConfigProblem {
  std::string key;     ///< last component of the key's path, to find it in the text; may be empty
  std::string message; ///< complete, with document and key
};

/// Reads an object of a JSON document. Getters mark a key as understood; on an error they record a
/// problem and return a harmless value (0, false, "" or 1 for sizes), so check failed() before
/// using what was read. A member that is null counts as absent: that is how configurations write
/// "not set". Readers of nested objects share their parent's problems. Borrows the document, which
/// must outlive it. Not thread-safe.
class ConfigReader {
public:
  ConfigReader(const json::Value &root, std::string document);

  bool has(std::string_view key) const;

  bool getBool(std::string_view key);
  int64_t getInt(std::string_view key);
  /// An integer of at least 1 and at most 2^31 - 1; 1 after an error.
  int64_t getSize(std::string_view key);
  double getDouble(std::string_view key);
  std::string getString(std::string_view key);

  bool getBoolOr(std::string_view key, bool fallback);
  int64_t getIntOr(std::string_view key, int64_t fallback);
  int64_t getSizeOr(std::string_view key, int64_t fallback);
  double getDoubleOr(std::string_view key, double fallback);
  std::string getStringOr(std::string_view key, std::string_view fallback);

  std::vector<int64_t> getInts(std::string_view key);
  std::vector<double> getDoubles(std::string_view key);
  std::vector<std::string> getStrings(std::string_view key);

  /// A nested object, whose own keys are then accounted for too; nothing when it is absent.
  std::optional<ConfigReader> getObject(std::string_view key);

  /// Marks a key as understood although its value is not used: one that does not change what this
  /// family computes.
  void ignore(std::string_view key);
  /// The same for every key of this object: after an error that leaves their meaning open.
  void ignoreAll();

  /// The object this reads.
  const json::Value &value() const { return cursor.value(); }

  /// Takes over the problems of another document's reader.
  void adopt(const ConfigReader &other);

  /// Records `<document>: key "<path of key>": <message>`.
  void error(std::string_view key, std::string_view message);

  /// Records a problem for every key, of this and of nested objects that were read, that nobody
  /// asked for and that isNeutralKey() does not list. `family` names who did not understand it.
  void finish(std::string_view family);

  bool failed() const { return !state->problems.empty(); }
  const std::vector<ConfigProblem> &problems() const { return state->problems; }

private:
  struct State {
    std::vector<ConfigProblem> problems;
    std::set<std::string, std::less<>> understood; ///< full paths
    std::vector<json::Cursor> objects;             ///< every object that was read, root first
  };
  ConfigReader(json::Cursor cursor, std::shared_ptr<State> state)
      : cursor(std::move(cursor)), state(std::move(state)) {}

  std::string pathOf(std::string_view key) const;
  void understand(std::string_view key) { state->understood.insert(pathOf(key)); }
  template <typename T> T take(std::string_view key, Result<T> result, T harmless);

  json::Cursor cursor;
  std::shared_ptr<State> state;
};

/// Whether the key `key` (without the path before it) never changes the result of inference,
/// whatever its value and the model: bookkeeping, training and defaults of tools.
bool isNeutralKey(std::string_view key);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_CHECKPOINT_CONFIGREADER_H
