//===- ChatTemplateValue.h - The values of a chat template ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Jinja is Python underneath: what a template prints, compares and adds follows Python's objects.
// Containers are immutable, as in the sandbox that transformers renders in; only namespace()
// objects change. The nesting depth of containers is bounded where they are made, so that walking
// and destroying a value never recurses deeply.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_VALUE_H
#define SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_VALUE_H

#include "runtime/base/Json.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::text::chat {

/// How a template ends in an error. Thrown inside the engine only, which carries a handful of
/// operations per expression through deep recursion; ChatTemplate turns it into a Status.
struct TemplateError {
  enum Kind { kSyntax, kRuntime, kRaised, kLimit } kind = kRuntime;
  std::string message;
  int line = 0, column = 0; ///< 1-based; 0 while unknown
};

/// Throws a runtime error; the evaluator adds the place.
[[noreturn]] void fail(std::string message);
/// Throws an error of the limits that make hostile templates end.
[[noreturn]] void exceed(std::string message);

/// How deep containers may nest.
inline constexpr int kMaxValueDepth = 100;

class Value;
class Evaluator;
struct Arguments;
struct LoopState;

/// `null` of a name that does not exist, with what to say when it is used.
struct Undefined {
  std::shared_ptr<const std::string> hint;
};
struct None {};

struct Sequence {
  enum Kind { kList, kTuple, kGenerator } kind = kList;
  std::vector<Value> items;
  int depth = 1;
  mutable size_t next = 0; ///< of a generator: what has been consumed
};
struct Dict {
  std::vector<std::pair<Value, Value>> items; ///< in order of insertion, keys unique
  int depth = 1;
  const Value *find(const Value &key) const;
  const Value *find(std::string_view key) const;
};
struct Namespace {
  std::vector<std::pair<std::string, Value>> items;
};
struct Function {
  std::string name;
  std::function<Value(Evaluator &, Arguments &)> call;
};

/// A value; cheap to copy.
class Value {
public:
  using String = std::shared_ptr<const std::string>;
  using Storage =
      std::variant<Undefined, None, bool, int64_t, double, String, std::shared_ptr<const Sequence>,
                   std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                   std::shared_ptr<const Function>, std::shared_ptr<const LoopState>>;

  Value() : storage(None{}) {}
  Value(Undefined undefined) : storage(std::move(undefined)) {}
  Value(bool value) : storage(value) {}
  Value(int64_t value) : storage(value) {}
  Value(double value) : storage(value) {}
  Value(std::string value) : storage(std::make_shared<const std::string>(std::move(value))) {}
  Value(const char *value) : Value(std::string(value)) {}
  Value(Storage storage) : storage(std::move(storage)) {}

  static Value undefined(std::string hint);
  /// Checks the nesting depth.
  static Value sequence(std::vector<Value> items, Sequence::Kind kind = Sequence::kList);
  /// Later values of equal keys replace earlier ones.
  static Value dict(std::vector<std::pair<Value, Value>> items);
  static Value function(std::string name, std::function<Value(Evaluator &, Arguments &)> call);
  static Value fromJson(const json::Value &value);

  template <typename T> const T *get() const { return std::get_if<T>(&storage); }
  bool isUndefined() const { return get<Undefined>(); }
  bool isNone() const { return get<None>(); }
  const std::string *string() const {
    auto *s = get<String>();
    return s ? s->get() : nullptr;
  }
  const Sequence *sequence() const {
    auto *s = get<std::shared_ptr<const Sequence>>();
    return s ? s->get() : nullptr;
  }
  const Dict *dict() const {
    auto *d = get<std::shared_ptr<const Dict>>();
    return d ? d->get() : nullptr;
  }
  Namespace *nameSpace() const {
    auto *n = get<std::shared_ptr<Namespace>>();
    return n ? n->get() : nullptr;
  }
  const Function *function() const {
    auto *f = get<std::shared_ptr<const Function>>();
    return f ? f->get() : nullptr;
  }
  const LoopState *loop() const {
    auto *l = get<std::shared_ptr<const LoopState>>();
    return l ? l->get() : nullptr;
  }
  /// The number behind a boolean or an integer.
  std::optional<int64_t> integer() const;
  /// The same for a float too.
  std::optional<double> number() const;

  bool truthy() const;
  int depth() const;
  /// As in Python's messages: "str", "NoneType".
  std::string_view typeName() const;

private:
  Storage storage;
};

/// str(value).
std::string toText(const Value &value);
/// repr(value).
std::string toRepr(const Value &value);
/// json.dumps(value, ensure_ascii=False by default, indent, separators, sort_keys).
struct JsonFormat {
  bool ensureAscii = false, sortKeys = false;
  std::optional<std::string> indent; ///< what one level is indented by
  std::optional<std::pair<std::string, std::string>> separators;
};
std::string toJson(const Value &value, const JsonFormat &format);

/// Python's ==.
bool equal(const Value &a, const Value &b);
/// Python's ordering, negative, zero or positive; `symbol` is for the error of what has none.
int compare(const Value &a, const Value &b, std::string_view symbol);
/// Python's `needle in haystack`.
bool contains(const Value &haystack, const Value &needle);

/// The items that iterating over a value gives; consumes a generator.
std::vector<Value> iterate(const Value &value);
/// len(value).
int64_t lengthOf(const Value &value);

/// Python's idea of white space: str.isspace of one character.
bool isPythonSpace(uint32_t codePoint);
std::string_view stripText(std::string_view text, bool left, bool right,
                           const std::string *characters);
size_t countCodePoints(std::string_view text);
/// repr of a float.
std::string floatText(double value);

} // namespace sluice::text::chat

#endif // SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_VALUE_H
