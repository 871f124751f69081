//===- ConfigReader.cpp - Every key of config.json accounted for ------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Typing and messages are json::Cursor's; this adds what Cursor does not keep: which keys were
// read.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/checkpoint/ConfigReader.h"

namespace sluice {

ConfigReader::ConfigReader(const json::Value &root, std::string document)
    : cursor(root, std::move(document)), state(std::make_shared<State>()) {
  state->objects.push_back(cursor);
}

std::string ConfigReader::pathOf(std::string_view key) const {
  return cursor.path().empty() ? std::string(key) : cursor.path() + "." + std::string(key);
}

bool ConfigReader::has(std::string_view key) const { return cursor.has(key); }

template <typename T> T ConfigReader::take(std::string_view key, Result<T> result, T harmless) {
  understand(key);
  if (result.isOk())
    return std::move(*result);
  state->problems.push_back({std::string(key), std::string(result.status().message())});
  return harmless;
}

bool ConfigReader::getBool(std::string_view key) { return take(key, cursor.getBool(key), false); }

int64_t ConfigReader::getInt(std::string_view key) {
  return take(key, cursor.getInt(key), int64_t(0));
}

int64_t ConfigReader::getSize(std::string_view key) {
  size_t before = state->problems.size();
  int64_t value = getInt(key);
  if (state->problems.size() != before)
    return 1;
  if (value >= 1 && value <= INT32_MAX)
    return value;
  error(key, std::to_string(value) + " is not a size; expected 1 to " + std::to_string(INT32_MAX));
  return 1;
}

double ConfigReader::getDouble(std::string_view key) {
  return take(key, cursor.getDouble(key), 0.0);
}

std::string ConfigReader::getString(std::string_view key) {
  return take(key, cursor.getString(key), std::string());
}

bool ConfigReader::getBoolOr(std::string_view key, bool fallback) {
  return take(key, cursor.getBoolOr(key, fallback), false);
}

int64_t ConfigReader::getIntOr(std::string_view key, int64_t fallback) {
  return take(key, cursor.getIntOr(key, fallback), int64_t(0));
}

int64_t ConfigReader::getSizeOr(std::string_view key, int64_t fallback) {
  if (has(key))
    return getSize(key);
  understand(key);
  return fallback;
}

double ConfigReader::getDoubleOr(std::string_view key, double fallback) {
  return take(key, cursor.getDoubleOr(key, fallback), 0.0);
}

std::string ConfigReader::getStringOr(std::string_view key, std::string_view fallback) {
  return take(key, cursor.getStringOr(key, fallback), std::string());
}

std::vector<int64_t> ConfigReader::getInts(std::string_view key) {
  return take(key, cursor.getIntArray(key), {});
}

std::vector<double> ConfigReader::getDoubles(std::string_view key) {
  return take(key, cursor.getDoubleArray(key), {});
}

std::vector<std::string> ConfigReader::getStrings(std::string_view key) {
  return take(key, cursor.getStringArray(key), {});
}

std::optional<ConfigReader> ConfigReader::getObject(std::string_view key) {
  understand(key);
  if (!has(key))
    return std::nullopt;
  Result<json::Cursor> object = cursor.getObject(key);
  if (!object.isOk()) {
    state->problems.push_back({std::string(key), std::string(object.status().message())});
    return std::nullopt;
  }
  state->objects.push_back(*object);
  return ConfigReader(*object, state);
}

void ConfigReader::ignore(std::string_view key) { understand(key); }

void ConfigReader::ignoreAll() {
  for (const json::Member &member : *cursor.value().objectIf())
    ignore(member.key);
}

void ConfigReader::adopt(const ConfigReader &other) {
  state->problems.insert(state->problems.end(), other.problems().begin(), other.problems().end());
}

void ConfigReader::error(std::string_view key, std::string_view message) {
  understand(key);
  state->problems.push_back({std::string(key), cursor.document() + ": key \"" + pathOf(key) +
                                                   "\": " + std::string(message)});
}

void ConfigReader::finish(std::string_view family) {
  for (const json::Cursor &object : state->objects)
    for (const json::Member &member : *object.value().objectIf()) {
      std::string path = ConfigReader(object, state).pathOf(member.key);
      if (member.value.isNull() || isNeutralKey(member.key) || state->understood.contains(path))
        continue;
      std::string value = member.value.dump();
      if (value.size() > 60)
        value = value.substr(0, 57) + "...";
      state->problems.push_back(
          {member.key, object.document() + ": key \"" + path + "\" is not understood by the " +
                           std::string(family) + " importer (value " + value +
                           "); Sluice refuses settings it might compute wrongly; remove it, or "
                           "report the model family"});
    }
}

} // namespace sluice
