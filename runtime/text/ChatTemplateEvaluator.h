//===- ChatTemplateEvaluator.h - Renders the tree of a chat template --------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A tree walker with Jinja's scopes. Every step and every byte that is made is charged to a budget,
// and calls count against a depth, so that rendering ends whatever the template says.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_EVALUATOR_H
#define SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_EVALUATOR_H

#include "runtime/text/ChatTemplateAst.h"
#include "runtime/text/ChatTemplateValue.h"

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::text::chat {

/// What one rendering may use, in bytes that are made; and what evaluating one node counts as,
/// about the time of copying as many bytes. A conversation of a thousand messages takes a
/// hundredth.
inline constexpr size_t kMaxCost = size_t(1) << 28;
inline constexpr size_t kStepCost = 32;
/// How deep calls may nest.
inline constexpr int kMaxEvaluationDepth = 1500;
/// As in Jinja's sandbox.
inline constexpr int64_t kMaxRange = 100'000;

/// Evaluated arguments, taken by position or name.
struct Arguments {
  std::string callee; ///< for errors
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;

  /// The argument at `index`, which may also be given as `name`.
  std::optional<Value> take(size_t index, std::string_view name) const;
  Value require(size_t index, std::string_view name) const;
  Value takeOr(size_t index, std::string_view name, Value fallback) const;
  std::string text(size_t index, std::string_view name, std::string fallback) const;
  int64_t integer(size_t index, std::string_view name, int64_t fallback) const;
  bool flag(size_t index, std::string_view name, bool fallback) const;
  /// Fails unless every argument is one of `names`, in this order.
  void only(std::initializer_list<std::string_view> names) const;
};

struct LoopState {
  std::vector<Value> items;
  size_t index = 0; ///< of the current item
  int depth0 = 0;
  mutable std::optional<Value> changed; ///< what loop.changed() saw last
};

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> names;
  const Value *find(std::string_view name) const;
  void set(const std::string &name, Value value);
};

class Evaluator {
public:
  /// `variables` are what the template may read; `now` is the time of strftime_now.
  Evaluator(std::vector<std::pair<std::string, Value>> variables, std::time_t now);
  ~Evaluator();

  /// Throws TemplateError.
  std::string render(const Block &block);

  /// Charges `cost` steps or bytes.
  void charge(size_t cost);
  /// Value of the text `text`, charged.
  Value text(std::string text);

  Value applyFilter(std::string_view name, const Value &value, Arguments &arguments);
  bool applyTest(std::string_view name, const Value &value, Arguments &arguments);
  Value attribute(const Value &object, std::string_view name);
  Value item(const Value &object, const Value &key);
  Value call(const Value &callee, Arguments &arguments);
  Value binary(std::string_view op, const Value &left, const Value &right);
  std::time_t time() const { return now; }
  /// A new, empty namespace.
  Value makeNamespace(std::vector<std::pair<std::string, Value>> items);

private:
  enum class Flow { kNormal, kBreak, kContinue };
  using ScopePtr = std::shared_ptr<Scope>;

  Flow execute(const Block &block, const ScopePtr &scope, std::string &out);
  Flow executeOne(const Statement &statement, const ScopePtr &scope, std::string &out);
  Flow executeFor(const Statement &statement, const ScopePtr &scope, std::string &out);
  void assign(const Target &target, Value value, Scope &scope);
  std::string capture(const Block &block, const ScopePtr &scope);
  Value macro(std::shared_ptr<const Macro> definition, const ScopePtr &scope);
  Value callMacro(const Macro &definition, const ScopePtr &scope, Arguments &arguments);
  void emit(std::string_view text, std::string &out);

  Value evaluate(const Expression &expression, const ScopePtr &scope);
  Value evaluateOne(const Expression &expression, const ScopePtr &scope);
  Value name(const Expression &expression, const ScopePtr &scope);
  Value compareChain(const Expression &expression, const ScopePtr &scope);
  Value concatenate(const Expression &expression, const ScopePtr &scope);
  Value callExpression(const Expression &expression, const ScopePtr &scope, const Value *caller);
  Value filter(const Expression &expression, const ScopePtr &scope, const Value *input);
  Value slice(const Expression &expression, const ScopePtr &scope);
  Arguments arguments(const CallArguments &call, std::string callee, const ScopePtr &scope);

  ScopePtr root;
  std::vector<std::weak_ptr<Namespace>> namespaces;
  std::time_t now;
  size_t cost = 0;
  int depth = 0, loopDepth = 0;
};

/// The methods of strings, dicts, sequences and loops; undefined for a name that is none.
Value methodOf(const Value &object, std::string_view name);
/// range, dict, namespace, raise_exception, strftime_now; null for another name.
const Value *globalFunction(std::string_view name);

/// Python's helpers that filters and methods share.
std::string replaceText(std::string_view text, std::string_view from, std::string_view to,
                        int64_t count);
std::string joinText(Evaluator &evaluator, const std::vector<Value> &items,
                     std::string_view separator);
std::string upperText(std::string_view text);
std::string lowerText(std::string_view text);
std::string capitalizeText(std::string_view text);
/// "%s %d" % arguments.
std::string printfText(Evaluator &evaluator, std::string_view pattern,
                       const std::vector<Value> &arguments);

} // namespace sluice::text::chat

#endif // SLUICE_RUNTIME_TEXT_CHAT_TEMPLATE_EVALUATOR_H
