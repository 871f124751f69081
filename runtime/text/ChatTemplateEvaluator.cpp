//===- ChatTemplateEvaluator.cpp - Renders the tree of a chat template ------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Scopes follow Jinja: `if` has none, every round of a loop, every macro call and every captured
// block has one, and what is set there is gone afterwards. Errors get the place of the innermost
// expression or statement that they pass.
//
//===------------------------------------------------------------------------===//
#include "runtime/text/ChatTemplateEvaluator.h"

#include "runtime/base/Format.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <cmath>

namespace sluice::text::chat {
namespace {

struct Deeper {
  explicit Deeper(int &depth) : depth(depth) {
    if (depth >= kMaxEvaluationDepth)
      exceed(format("calls nest deeper than %d", kMaxEvaluationDepth));
    ++depth;
  }
  ~Deeper() { --depth; }
  int &depth;
};

[[noreturn]] void failUndefined(const Value &value) { fail(*value.get<Undefined>()->hint); }

std::string describe(const Value &object) {
  return object.isNone() ? "'None'" : "'" + std::string(object.typeName()) + " object'";
}

Value integerOrFail(bool overflow, const int64_t &value) {
  if (overflow)
    fail("an integer exceeds 64 bits");
  return Value(value);
}

Value arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+")
    return integerOrFail(__builtin_add_overflow(a, b, &result), result);
  if (op == "-")
    return integerOrFail(__builtin_sub_overflow(a, b, &result), result);
  if (op == "*")
    return integerOrFail(__builtin_mul_overflow(a, b, &result), result);
  if (op == "**") {
    if (b < 0)
      return Value(std::pow(static_cast<double>(a), static_cast<double>(b)));
    if (a == 0 || a == 1 || a == -1)
      return Value(b == 0 ? int64_t(1) : b % 2 ? a : a * a);
    result = 1;
    for (int64_t i = 0; i < b; ++i)
      if (__builtin_mul_overflow(result, a, &result))
        integerOrFail(true, 0);
    return Value(result);
  }
  if (b == 0)
    fail("division by zero");
  if (op == "/")
    return Value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1)
    return op == "%" ? Value(int64_t(0))
                     : integerOrFail(__builtin_sub_overflow(0, a, &result), result);
  int64_t quotient = a / b, rest = a % b;
  if (rest != 0 && (rest < 0) != (b < 0)) {
    --quotient;
    rest += b;
  }
  return Value(op == "%" ? rest : quotient);
}

Value arithmetic(std::string_view op, double a, double b) {
  if (op == "+")
    return Value(a + b);
  if (op == "-")
    return Value(a - b);
  if (op == "*")
    return Value(a * b);
  if (op == "**")
    return Value(std::pow(a, b));
  if (b == 0)
    fail("division by zero");
  if (op == "/")
    return Value(a / b);
  if (op == "//")
    return Value(std::floor(a / b));
  double rest = std::fmod(a, b);
  return Value(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

} // namespace

// Arguments.

std::optional<Value> Arguments::take(size_t index, std::string_view name) const {
  if (index < positional.size())
    return positional[index];
  for (const auto &[key, value] : keyword)
    if (key == name)
      return value;
  return std::nullopt;
}

Value Arguments::require(size_t index, std::string_view name) const {
  std::optional<Value> value = take(index, name);
  if (!value)
    fail(callee + "() misses the argument '" + std::string(name) + "'");
  return *value;
}

Value Arguments::takeOr(size_t index, std::string_view name, Value fallback) const {
  return take(index, name).value_or(std::move(fallback));
}

std::string Arguments::text(size_t index, std::string_view name, std::string fallback) const {
  std::optional<Value> value = take(index, name);
  if (!value)
    return fallback;
  const std::string *text = value->string();
  if (!text)
    fail(callee + "(): the argument '" + std::string(name) + "' is of type " +
         std::string(value->typeName()) + ", not str");
  return *text;
}

int64_t Arguments::integer(size_t index, std::string_view name, int64_t fallback) const {
  std::optional<Value> value = take(index, name);
  if (!value || value->isNone())
    return fallback;
  std::optional<int64_t> number = value->integer();
  if (!number)
    fail(callee + "(): the argument '" + std::string(name) + "' is of type " +
         std::string(value->typeName()) + ", not int");
  return *number;
}

bool Arguments::flag(size_t index, std::string_view name, bool fallback) const {
  std::optional<Value> value = take(index, name);
  return value ? value->truthy() : fallback;
}

void Arguments::only(std::initializer_list<std::string_view> names) const {
  if (positional.size() > names.size())
    fail(format("%s() takes at most %zu arguments, but %zu are given", callee.c_str(), names.size(),
                positional.size()));
  for (const auto &[key, value] : keyword) {
    auto it = std::find(names.begin(), names.end(), key);
    if (it == names.end() || static_cast<size_t>(it - names.begin()) < positional.size())
      fail(callee + "() got an unexpected argument '" + key + "'");
  }
}

// Scopes.

const Value *Scope::find(std::string_view name) const {
  for (const Scope *scope = this; scope; scope = scope->parent.get())
    for (const auto &[key, value] : scope->names)
      if (key == name)
        return &value;
  return nullptr;
}

void Scope::set(const std::string &name, Value value) {
  for (auto &[key, known] : names)
    if (key == name) {
      known = std::move(value);
      return;
    }
  names.emplace_back(name, std::move(value));
}

Evaluator::Evaluator(std::vector<std::pair<std::string, Value>> variables, std::time_t now)
    : root(std::make_shared<Scope>()), now(now) {
  root->names = std::move(variables);
}

Evaluator::~Evaluator() {
  // Namespaces may hold each other.
  std::vector<std::shared_ptr<Namespace>> alive;
  for (const auto &weak : namespaces)
    if (auto ns = weak.lock())
      alive.push_back(std::move(ns));
  for (const auto &ns : alive)
    ns->items.clear();
}

void Evaluator::charge(size_t amount) {
  if (amount > kMaxCost - cost)
    exceed(
        format("rendering takes more than %zu steps or %zu bytes", kMaxCost / kStepCost, kMaxCost));
  cost += amount;
}

Value Evaluator::text(std::string text) {
  charge(text.size());
  return Value(std::move(text));
}

void Evaluator::emit(std::string_view text, std::string &out) {
  charge(text.size());
  out += text;
}

Value Evaluator::makeNamespace(std::vector<std::pair<std::string, Value>> items) {
  auto ns = std::make_shared<Namespace>();
  ns->items = std::move(items);
  namespaces.push_back(ns);
  return Value::Storage(std::move(ns));
}

// Statements.

std::string Evaluator::render(const Block &block) {
  std::string out;
  auto scope = std::make_shared<Scope>();
  scope->parent = root;
  execute(block, scope, out);
  return out;
}

Evaluator::Flow Evaluator::execute(const Block &block, const ScopePtr &scope, std::string &out) {
  for (const auto &statement : block) {
    charge(kStepCost);
    Deeper deeper(depth);
    try {
      Flow flow = executeOne(*statement, scope, out);
      if (flow != Flow::kNormal)
        return flow;
    } catch (TemplateError &error) {
      if (error.line == 0) {
        error.line = statement->line;
        error.column = statement->column;
      }
      throw;
    }
  }
  return Flow::kNormal;
}

std::string Evaluator::capture(const Block &block, const ScopePtr &scope) {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope;
  std::string out;
  execute(block, inner, out);
  return out;
}

Evaluator::Flow Evaluator::executeOne(const Statement &s, const ScopePtr &scope, std::string &out) {
  switch (s.kind) {
  case Statement::kText:
    emit(s.text, out);
    return Flow::kNormal;
  case Statement::kPrint:
    emit(toText(evaluate(*s.expression, scope)), out);
    return Flow::kNormal;
  case Statement::kIf:
    for (const auto &[condition, body] : s.branches)
      if (!condition || evaluate(*condition, scope).truthy())
        return execute(body, scope, out);
    return Flow::kNormal;
  case Statement::kFor:
    return executeFor(s, scope, out);
  case Statement::kSet:
    assign(s.target, evaluate(*s.expression, scope), *scope);
    return Flow::kNormal;
  case Statement::kSetBlock:
  case Statement::kFilter: {
    Value value(capture(s.body, scope));
    if (s.expression)
      value = filter(*s.expression, scope, &value);
    if (s.kind == Statement::kSetBlock)
      assign(s.target, std::move(value), *scope);
    else
      emit(toText(value), out);
    return Flow::kNormal;
  }
  case Statement::kMacro:
    scope->set(s.macro->name, macro(s.macro, scope));
    return Flow::kNormal;
  case Statement::kCall: {
    Value caller = macro(s.macro, scope);
    emit(toText(callExpression(*s.expression, scope, &caller)), out);
    return Flow::kNormal;
  }
  case Statement::kWith: {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    std::vector<Value> values;
    for (const auto &[name, expression] : s.bindings)
      values.push_back(evaluate(*expression, scope));
    for (size_t i = 0; i < values.size(); ++i)
      inner->set(s.bindings[i].first, std::move(values[i]));
    return execute(s.body, inner, out);
  }
  case Statement::kBlock: {
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    return execute(s.body, inner, out);
  }
  case Statement::kBreak:
    return Flow::kBreak;
  case Statement::kContinue:
    return Flow::kContinue;
  }
  return Flow::kNormal;
}

Evaluator::Flow Evaluator::executeFor(const Statement &s, const ScopePtr &scope, std::string &out) {
  auto state = std::make_shared<LoopState>();
  state->items = iterate(evaluate(*s.expression, scope));
  state->depth0 = loopDepth;
  charge(state->items.size() * sizeof(Value));
  if (s.condition) {
    std::vector<Value> kept;
    for (Value &item : state->items) {
      auto inner = std::make_shared<Scope>();
      inner->parent = scope;
      assign(s.target, item, *inner);
      if (evaluate(*s.condition, inner).truthy())
        kept.push_back(std::move(item));
    }
    state->items = std::move(kept);
  }
  if (state->items.empty())
    return execute(s.otherwise, scope, out);
  struct Count {
    explicit Count(int &count) : count(count) { ++count; }
    ~Count() { --count; }
    int &count;
  } counted(loopDepth);
  for (; state->index < state->items.size(); ++state->index) {
    charge(kStepCost);
    auto inner = std::make_shared<Scope>();
    inner->parent = scope;
    inner->set("loop", Value::Storage(std::shared_ptr<const LoopState>(state)));
    assign(s.target, state->items[state->index], *inner);
    if (execute(s.body, inner, out) == Flow::kBreak)
      break;
  }
  return Flow::kNormal;
}

void Evaluator::assign(const Target &target, Value value, Scope &scope) {
  if (!target.attribute.empty()) {
    const Value *object = scope.find(target.names[0]);
    Namespace *ns = object ? object->nameSpace() : nullptr;
    if (!ns)
      fail("cannot assign attribute on non-namespace object");
    for (auto &[key, known] : ns->items)
      if (key == target.attribute) {
        known = std::move(value);
        return;
      }
    ns->items.emplace_back(target.attribute, std::move(value));
    return;
  }
  if (!target.unpacks)
    return scope.set(target.names[0], std::move(value));
  std::vector<Value> items = iterate(value);
  if (items.size() != target.names.size())
    fail(format("%zu values to unpack, expected %zu", items.size(), target.names.size()));
  for (size_t i = 0; i < items.size(); ++i)
    scope.set(target.names[i], std::move(items[i]));
}

Value Evaluator::macro(std::shared_ptr<const Macro> definition, const ScopePtr &scope) {
  // Weak, since the scope holds the macro.
  std::weak_ptr<Scope> home = scope;
  std::string name = definition->name;
  return Value::function(name, [definition = std::move(definition), home](Evaluator &evaluator,
                                                                          Arguments &arguments) {
    ScopePtr alive = home.lock();
    if (!alive)
      fail("the macro '" + definition->name + "' is called outside of the scope that defines it");
    return evaluator.callMacro(*definition, alive, arguments);
  });
}

Value Evaluator::callMacro(const Macro &macro, const ScopePtr &home, Arguments &arguments) {
  auto scope = std::make_shared<Scope>();
  scope->parent = home;
  std::vector<bool> used(arguments.keyword.size());
  auto keyword = [&](std::string_view name) -> const Value * {
    for (size_t i = 0; i < used.size(); ++i)
      if (arguments.keyword[i].first == name) {
        used[i] = true;
        return &arguments.keyword[i].second;
      }
    return nullptr;
  };
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter &parameter = macro.parameters[i];
    if (i < arguments.positional.size())
      scope->set(parameter.name, arguments.positional[i]);
    else if (const Value *value = keyword(parameter.name))
      scope->set(parameter.name, *value);
    else if (parameter.fallback)
      scope->set(parameter.name, evaluate(*parameter.fallback, scope));
    else
      scope->set(parameter.name,
                 Value::undefined("parameter '" + parameter.name + "' was not provided"));
  }
  if (macro.takesCaller) {
    const Value *caller = keyword("caller");
    scope->set("caller", caller ? *caller : Value::undefined("no caller defined"));
  }
  std::vector<Value> rest;
  for (size_t i = macro.parameters.size(); i < arguments.positional.size(); ++i)
    rest.push_back(arguments.positional[i]);
  std::vector<std::pair<Value, Value>> others;
  for (size_t i = 0; i < used.size(); ++i)
    if (!used[i])
      others.emplace_back(Value(arguments.keyword[i].first), arguments.keyword[i].second);
  if (!macro.takesVarargs && !rest.empty())
    fail(format("macro '%s' takes not more than %zu argument(s)", macro.name.c_str(),
                macro.parameters.size()));
  if (!macro.takesKwargs && !others.empty())
    fail("macro '" + macro.name + "' takes no keyword argument " + toRepr(others[0].first));
  scope->set("varargs", Value::sequence(std::move(rest), Sequence::kTuple));
  scope->set("kwargs", Value::dict(std::move(others)));
  std::string out;
  execute(macro.body, scope, out);
  return Value(std::move(out));
}

// Expressions.

Value Evaluator::evaluate(const Expression &expression, const ScopePtr &scope) {
  charge(kStepCost);
  Deeper deeper(depth);
  try {
    return evaluateOne(expression, scope);
  } catch (TemplateError &error) {
    if (error.line == 0) {
      error.line = expression.line;
      error.column = expression.column;
    }
    throw;
  }
}

Value Evaluator::evaluateOne(const Expression &e, const ScopePtr &scope) {
  auto part = [&](size_t i) { return evaluate(*e.parts[i], scope); };
  switch (e.kind) {
  case Expression::kLiteral:
    return e.value;
  case Expression::kName:
    return name(e, scope);
  case Expression::kList:
  case Expression::kTuple: {
    std::vector<Value> items;
    for (size_t i = 0; i < e.parts.size(); ++i)
      items.push_back(part(i));
    return Value::sequence(std::move(items),
                           e.kind == Expression::kList ? Sequence::kList : Sequence::kTuple);
  }
  case Expression::kDict: {
    std::vector<std::pair<Value, Value>> items;
    for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
      Value key = part(i);
      items.emplace_back(std::move(key), part(i + 1));
    }
    return Value::dict(std::move(items));
  }
  case Expression::kAttribute:
    return attribute(part(0), e.name);
  case Expression::kItem: {
    Value object = part(0);
    return item(object, part(1));
  }
  case Expression::kSlice:
    return slice(e, scope);
  case Expression::kCall:
    return callExpression(e, scope, nullptr);
  case Expression::kFilter:
    return filter(e, scope, nullptr);
  case Expression::kTest: {
    Value value = part(0);
    Arguments args = arguments(e.arguments, e.name, scope);
    return Value(applyTest(e.name, value, args));
  }
  case Expression::kNot:
    return Value(!part(0).truthy());
  case Expression::kNegate:
  case Expression::kPlus: {
    Value value = part(0);
    int64_t sign = e.kind == Expression::kPlus ? 1 : -1;
    if (value.integer() || value.number())
      return binary("*", value, Value(sign));
    if (value.isUndefined())
      failUndefined(value);
    fail("bad operand type for unary operator: '" + std::string(value.typeName()) + "'");
  }
  case Expression::kAnd: {
    Value left = part(0);
    return left.truthy() ? part(1) : left;
  }
  case Expression::kOr: {
    Value left = part(0);
    return left.truthy() ? left : part(1);
  }
  case Expression::kBinary: {
    Value left = part(0);
    return binary(e.name, left, part(1));
  }
  case Expression::kConcat:
    return concatenate(e, scope);
  case Expression::kCompare:
    return compareChain(e, scope);
  case Expression::kConditional:
    if (part(1).truthy())
      return part(0);
    return e.parts[2] ? part(2)
                      : Value::undefined("the inline if-expression evaluated to false and no else "
                                         "section was defined");
  }
  return Value();
}

Value Evaluator::name(const Expression &e, const ScopePtr &scope) {
  if (const Value *value = scope->find(e.name))
    return *value;
  if (const Value *function = globalFunction(e.name))
    return *function;
  return Value::undefined("'" + e.name + "' is undefined");
}

Value Evaluator::concatenate(const Expression &e, const ScopePtr &scope) {
  std::string out;
  for (const ExpressionPtr &part : e.parts)
    out += toText(evaluate(*part, scope));
  return text(std::move(out));
}

Value Evaluator::compareChain(const Expression &e, const ScopePtr &scope) {
  Value left = evaluate(*e.parts[0], scope);
  for (size_t i = 0; i < e.names.size(); ++i) {
    const std::string &op = e.names[i];
    Value right = evaluate(*e.parts[i + 1], scope);
    bool holds = false;
    if (op == "in" || op == "not in") {
      if (const std::string *haystack = right.string())
        charge(haystack->size() / 16);
      holds = contains(right, left) == (op == "in");
    } else if (op == "==" || op == "!=") {
      holds = equal(left, right) == (op == "==");
    } else {
      int order = compare(left, right, op);
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds)
      return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Arguments Evaluator::arguments(const CallArguments &call, std::string callee,
                               const ScopePtr &scope) {
  Arguments result;
  result.callee = std::move(callee);
  for (const ExpressionPtr &argument : call.positional)
    result.positional.push_back(evaluate(*argument, scope));
  for (const auto &[name, argument] : call.keyword)
    result.keyword.emplace_back(name, evaluate(*argument, scope));
  return result;
}

Value Evaluator::callExpression(const Expression &e, const ScopePtr &scope, const Value *caller) {
  Value callee = evaluate(*e.parts[0], scope);
  Arguments args = arguments(e.arguments, e.parts[0]->name, scope);
  if (caller)
    args.keyword.emplace_back("caller", *caller);
  return call(callee, args);
}

Value Evaluator::call(const Value &callee, Arguments &args) {
  if (callee.isUndefined())
    failUndefined(callee);
  const Function *function = callee.function();
  if (!function)
    fail("'" + std::string(callee.typeName()) + "' object is not callable");
  args.callee = function->name;
  return function->call(*this, args);
}

Value Evaluator::filter(const Expression &e, const ScopePtr &scope, const Value *input) {
  Value value = e.parts.empty() ? *input
                : input         ? filter(*e.parts[0], scope, input)
                                : evaluate(*e.parts[0], scope);
  Arguments args = arguments(e.arguments, e.name, scope);
  return applyFilter(e.name, value, args);
}

Value Evaluator::attribute(const Value &object, std::string_view name) {
  if (object.isUndefined())
    failUndefined(object);
  Value method = methodOf(object, name);
  if (!method.isUndefined())
    return method;
  if (const Dict *dict = object.dict())
    if (const Value *value = dict->find(name))
      return *value;
  if (const Namespace *ns = object.nameSpace())
    for (const auto &[key, value] : ns->items)
      if (key == name)
        return value;
  return Value::undefined(describe(object) + " has no attribute '" + std::string(name) + "'");
}

Value Evaluator::item(const Value &object, const Value &key) {
  if (object.isUndefined())
    failUndefined(object);
  if (const Dict *dict = object.dict()) {
    charge(dict->items.size() / 16);
    if (const Value *value = dict->find(key))
      return *value;
  }
  if (const std::string *name = key.string()) {
    Value found = attribute(object, *name);
    return found;
  }
  std::optional<int64_t> position = key.integer();
  const Sequence *sequence = object.sequence();
  const std::string *string = object.string();
  if (position && ((sequence && sequence->kind != Sequence::kGenerator) || string)) {
    int64_t length = lengthOf(object);
    int64_t index = *position < 0 ? *position + length : *position;
    if (index >= 0 && index < length) {
      if (sequence)
        return sequence->items[static_cast<size_t>(index)];
      charge(string->size() / 16);
      size_t pos = 0;
      for (int64_t i = 0; i < index; ++i)
        pos += codePointSize((*string)[pos]);
      return Value(string->substr(pos, codePointSize((*string)[pos])));
    }
  }
  return Value::undefined(describe(object) + " has no element " + toRepr(key));
}

Value Evaluator::slice(const Expression &e, const ScopePtr &scope) {
  Value object = evaluate(*e.parts[0], scope);
  std::optional<int64_t> bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!e.parts[i + 1])
      continue;
    Value bound = evaluate(*e.parts[i + 1], scope);
    bounds[i] = bound.integer();
    if (!bounds[i] && !bound.isNone())
      fail("slice indices must be integers or None");
  }
  if (object.isUndefined())
    failUndefined(object);
  const Sequence *sequence = object.sequence();
  if ((!sequence || sequence->kind == Sequence::kGenerator) && !object.string())
    return Value::undefined(describe(object) + " cannot be sliced");
  int64_t length = lengthOf(object), step = bounds[2].value_or(1);
  if (step == 0)
    fail("slice step cannot be zero");
  int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
  auto clamp = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound)
      return fallback;
    return std::clamp(*bound < 0 ? *bound + length : *bound, low, high);
  };
  int64_t start = clamp(bounds[0], step > 0 ? low : high);
  int64_t stop = clamp(bounds[1], step > 0 ? high : low);
  step = std::clamp(step, -length - 1, length + 1);
  std::vector<Value> characters;
  if (const std::string *string = object.string()) {
    if (step == 1) {
      size_t begin = 0;
      for (int64_t i = 0; i < start; ++i)
        begin += codePointSize((*string)[begin]);
      size_t end = begin;
      for (int64_t i = start; i < stop; ++i)
        end += codePointSize((*string)[end]);
      charge(end / 16);
      return text(string->substr(begin, end - begin));
    }
    characters = iterate(object);
  }
  const std::vector<Value> &source = sequence ? sequence->items : characters;
  std::vector<Value> picked;
  for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step)
    picked.push_back(source[static_cast<size_t>(i)]);
  charge(picked.size() * sizeof(Value));
  if (sequence)
    return Value::sequence(std::move(picked), sequence->kind);
  return text(joinText(*this, picked, ""));
}

Value Evaluator::binary(std::string_view op, const Value &left, const Value &right) {
  if (left.isUndefined())
    failUndefined(left);
  if (std::optional<int64_t> a = left.integer(), b = right.integer(); a && b)
    return arithmetic(op, *a, *b);
  if (std::optional<double> a = left.number(), b = right.number(); a && b)
    return arithmetic(op, *a, *b);
  const std::string *string = left.string();
  if (op == "%" && string) {
    const Sequence *tuple = right.sequence();
    bool many = tuple && tuple->kind == Sequence::kTuple;
    return text(printfText(*this, *string, many ? tuple->items : std::vector<Value>{right}));
  }
  if (right.isUndefined())
    failUndefined(right);
  if (const std::string *other = right.string(); op == "+" && string && other) {
    charge(string->size() + other->size());
    return Value(*string + *other);
  }
  const Sequence *a = left.sequence(), *b = right.sequence();
  if (op == "+" && a && b && a->kind == b->kind && a->kind != Sequence::kGenerator) {
    charge((a->items.size() + b->items.size()) * sizeof(Value));
    std::vector<Value> items = a->items;
    items.insert(items.end(), b->items.begin(), b->items.end());
    return Value::sequence(std::move(items), a->kind);
  }
  if (op == "*" && (left.integer() || right.integer())) {
    const Value &repeated = left.integer() ? right : left;
    size_t count = static_cast<size_t>(
        std::max<int64_t>(0, left.integer() ? *left.integer() : *right.integer()));
    const Sequence *items = repeated.sequence();
    if (repeated.string() || (items && items->kind != Sequence::kGenerator)) {
      size_t size = repeated.string() ? repeated.string()->size() : items->items.size();
      if (size > 0 && count > kMaxCost / size / sizeof(Value))
        exceed("a repetition is too long");
      charge(size * count * (repeated.string() ? 1 : sizeof(Value)));
      std::string out;
      std::vector<Value> list;
      for (size_t i = 0; size > 0 && i < count; ++i)
        if (items)
          list.insert(list.end(), items->items.begin(), items->items.end());
        else
          out += *repeated.string();
      return items ? Value::sequence(std::move(list), items->kind) : Value(std::move(out));
    }
  }
  if (op == "+" && string)
    fail("can only concatenate str (not \"" + std::string(right.typeName()) + "\") to str");
  fail("unsupported operand type(s) for " + std::string(op) + ": '" + std::string(left.typeName()) +
       "' and '" + std::string(right.typeName()) + "'");
}

} // namespace sluice::text::chat
