//===- MoeDialect.cpp - The `moe` dialect and its module attributes ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Registration, and the checks of the attributes that describe the model, its limits, the target
// and the reached phase on the module. They are discardable attributes rather than an operation, so
// that every phase, also those after `moe` operations are gone, finds them in the same place.
//
//===----------------------------------------------------------------------===//
#include "dialects/Moe/Moe.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

#include "dialects/Moe/MoeDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/Moe/MoeTypes.cpp.inc"

namespace sluice::moe {

void MoeDialect::initialize() {
  registerAttributes();
  registerTypes();
  addOperations<
#define GET_OP_LIST
#include "dialects/Moe/MoeOps.cpp.inc"
      >();
}

void MoeDialect::registerTypes() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Moe/MoeTypes.cpp.inc"
      >();
}

static InFlightDiagnostic fail(Operation *op, NamedAttribute attribute, int constraint) {
  return op->emitError() << "'" << attribute.getName().getValue() << "' C" << constraint << ": ";
}

/// Reads the i64 entry `name` of `dict`; reports C`constraint` when it is missing, of another type
/// or below `least`.
static FailureOr<int64_t> readInteger(Operation *op, NamedAttribute attribute, int constraint,
                                      DictionaryAttr dict, StringRef name, int64_t least) {
  auto value = dict.getAs<IntegerAttr>(name);
  if (!value || !value.getType().isSignlessInteger(64)) {
    fail(op, attribute, constraint) << "needs an i64 '" << name << "'";
    return failure();
  }
  if (value.getInt() < least) {
    fail(op, attribute, constraint)
        << "'" << name << "' = " << value.getInt() << " must be at least " << least;
    return failure();
  }
  return value.getInt();
}

/// C1 dictionary; C2 strings; C3 integers and their least values; C4 end-of-sequence ids; C5 top_k.
static LogicalResult verifyModel(Operation *op, NamedAttribute attribute) {
  auto dict = dyn_cast<DictionaryAttr>(attribute.getValue());
  if (!dict)
    return fail(op, attribute, 1) << "must be a dictionary";
  for (StringRef name : {"name", "family"})
    if (auto text = dict.getAs<StringAttr>(name); !text || text.empty())
      return fail(op, attribute, 2) << "needs a non-empty string '" << name << "'";
  // Dense models have no experts; a model without a begin-of-sequence token says -1.
  constexpr std::pair<StringLiteral, int64_t> integers[] = {{"vocab_size", 1},
                                                            {"hidden_size", 1},
                                                            {"num_layers", 1},
                                                            {"num_experts", 0},
                                                            {"top_k", 0},
                                                            {"max_position", 1},
                                                            {"bos_token_id", -1},
                                                            {"total_parameters", 1},
                                                            {"active_parameters", 1}};
  for (auto [name, least] : integers)
    if (failed(readInteger(op, attribute, 3, dict, name, least)))
      return failure();
  auto ends = dict.getAs<DenseI64ArrayAttr>("eos_token_ids");
  if (!ends || llvm::any_of(ends.asArrayRef(), [](int64_t id) { return id < 0; }))
    return fail(op, attribute, 4) << "needs 'eos_token_ids' = array<i64: ...> of ids that are not "
                                     "negative";
  int64_t topK = dict.getAs<IntegerAttr>("top_k").getInt();
  int64_t experts = dict.getAs<IntegerAttr>("num_experts").getInt();
  if (topK > experts)
    return fail(op, attribute, 5) << "top_k = " << topK << " exceeds the number of experts "
                                  << experts;
  return success();
}

/// C1 dictionary; C2 positive integers; C3 wanted rows are rows of the step; C4 every sequence of a
/// step brings a token; C5 the pages hold at least one sequence of full length.
static LogicalResult verifyLimits(Operation *op, NamedAttribute attribute) {
  auto dict = dyn_cast<DictionaryAttr>(attribute.getValue());
  if (!dict)
    return fail(op, attribute, 1) << "must be a dictionary";
  constexpr StringLiteral names[] = {"max_batch_tokens", "max_seqs",  "max_seq_len",
                                     "max_logit_rows",   "page_size", "num_pages"};
  int64_t values[std::size(names)];
  for (auto [name, value] : llvm::zip(names, values)) {
    FailureOr<int64_t> read = readInteger(op, attribute, 2, dict, name, 1);
    if (failed(read))
      return failure();
    value = *read;
  }
  auto [tokens, seqs, seqLen, logitRows, pageSize, pages] = values;
  if (logitRows > tokens)
    return fail(op, attribute, 3) << "max_logit_rows = " << logitRows
                                  << " exceeds max_batch_tokens = " << tokens;
  if (seqs > tokens)
    return fail(op, attribute, 4) << "max_seqs = " << seqs
                                  << " exceeds max_batch_tokens = " << tokens;
  int64_t capacity;
  if (!llvm::MulOverflow(pages, pageSize, capacity) && capacity < seqLen)
    return fail(op, attribute, 5) << "num_pages = " << pages << " of " << pageSize
                                  << " tokens hold no sequence of max_seq_len = " << seqLen;
  return success();
}

static LogicalResult verifyPhase(Operation *op, NamedAttribute attribute) {
  constexpr StringLiteral phases[] = {"input", "normalized",  "quantized", "placed",
                                      "fused", "partitioned", "planned"};
  auto phase = dyn_cast<StringAttr>(attribute.getValue());
  if (!phase || !llvm::is_contained(phases, phase.getValue()))
    return fail(op, attribute, 1) << attribute.getValue() << " is none of the phases "
                                  << llvm::join(std::begin(phases), std::end(phases), ", ");
  return success();
}

static LogicalResult verifyActivations(Operation *op, NamedAttribute attribute) {
  auto format = dyn_cast<StringAttr>(attribute.getValue());
  if (!format || format.getValue() != "f8e4m3:group128")
    return fail(op, attribute, 1) << attribute.getValue()
                                  << " is not \"f8e4m3:group128\", the one format that activations "
                                     "are rounded to";
  return success();
}

/// {ranks, tp, ep, dp}, after partitioning also attention_tp: see docs/parallelism.md.
static LogicalResult verifyParallel(Operation *op, NamedAttribute attribute) {
  auto dict = dyn_cast<DictionaryAttr>(attribute.getValue());
  if (!dict)
    return fail(op, attribute, 1) << "must be a dictionary";
  auto number = [&](StringRef key) {
    auto value = dict.getAs<IntegerAttr>(key);
    return value && value.getInt() > 0 ? value.getInt() : 0;
  };
  int64_t ranks = number("ranks"), tp = number("tp"), ep = number("ep"), dp = number("dp");
  if (ranks == 0 || tp == 0 || ep == 0 || dp == 0)
    return fail(op, attribute, 2) << "needs positive integers ranks, tp, ep and dp";
  if (ranks % tp != 0 || ranks / tp != ep)
    return fail(op, attribute, 3) << "tp * ep = " << tp << " * " << ep
                                  << " is not ranks = " << ranks;
  if (ranks % dp != 0)
    return fail(op, attribute, 4) << "dp = " << dp << " does not divide ranks = " << ranks;
  if (dict.contains("attention_tp") &&
      (number("attention_tp") == 0 || ranks / dp % number("attention_tp") != 0))
    return fail(op, attribute, 5) << "attention_tp = " << dict.get("attention_tp")
                                  << " does not divide ranks / dp = " << ranks / dp;
  return success();
}

LogicalResult MoeDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  StringRef name = attribute.getName();
  bool known = name == getModelAttrName() || name == getLimitsAttrName() ||
               name == getTargetAttrName() || name == getPhaseAttrName() ||
               name == getParallelAttrName() || name == getActivationsAttrName();
  if (known && !isa<ModuleOp>(op))
    return op->emitError() << "'" << name << "' belongs on the module, not on '" << op->getName()
                           << "'";
  if (name == getModelAttrName())
    return verifyModel(op, attribute);
  if (name == getLimitsAttrName())
    return verifyLimits(op, attribute);
  if (name == getPhaseAttrName())
    return verifyPhase(op, attribute);
  if (name == getParallelAttrName())
    return verifyParallel(op, attribute);
  if (name == getActivationsAttrName())
    return verifyActivations(op, attribute);
  if (name == getTargetAttrName() && !isa<StringAttr>(attribute.getValue()))
    return fail(op, attribute, 1) << "must be a string";
  return success();
}

} // namespace sluice::moe
