//===- Report.cpp - What was decided, with the numbers ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The report travels with the artifact: a user finds in it why memory is what it is, without tools.
//
//===----------------------------------------------------------------------===//
#include "compiler/driver/Report.h"

#include "dialects/Moe/Moe.h"
#include "dialects/Plan/Plan.h"
#include "runtime/base/Version.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace sluice {

namespace {

json::Value toJson(Attribute attr) {
  if (auto integer = dyn_cast<IntegerAttr>(attr))
    return json::Value(integer.getInt());
  if (auto text = dyn_cast<StringAttr>(attr))
    return json::Value(text.getValue().str());
  if (auto dictionary = dyn_cast<DictionaryAttr>(attr)) {
    json::Value object;
    for (NamedAttribute entry : dictionary)
      object.set(entry.getName().getValue(), toJson(entry.getValue()));
    return object;
  }
  json::Value array;
  if (auto list = dyn_cast<DenseI64ArrayAttr>(attr))
    for (int64_t value : list.asArrayRef())
      array.push(json::Value(value));
  else if (auto elements = dyn_cast<ArrayAttr>(attr))
    for (Attribute element : elements)
      array.push(toJson(element));
  return array;
}

/// What a weight is for, from its symbol: "layers.3.experts.gate_up" -> "experts.gate_up".
StringRef weightKind(StringRef symbol) {
  if (!symbol.consume_front("layers."))
    return symbol;
  return symbol.split('.').second;
}

json::Value rankReport(plan::RankOp rank) {
  json::Value result;
  result.set("rank", json::Value(int64_t(rank.getNumber())));
  json::Value slabs;
  int64_t total = 0;
  for (auto slab : rank.getSlabs()) {
    slabs.set(plan::stringifySlabKind(slab.getKind()), json::Value(int64_t(slab.getBytes())));
    total += int64_t(slab.getBytes());
  }
  result.set("bytes", json::Value(total));
  result.set("slabs", std::move(slabs));

  llvm::MapVector<StringRef, int64_t> kinds;
  for (auto weight : rank.getWeights())
    kinds[weightKind(weight.getSymName())] += int64_t(weight.getBytes());
  json::Value weights;
  for (auto &[kind, bytes] : kinds)
    weights.set(kind, json::Value(bytes));
  result.set("weight_bytes", std::move(weights));

  json::Value buckets;
  for (auto program : rank.getPrograms()) {
    json::Value bucket;
    bucket.set("tokens", json::Value(int64_t(program.getTokens())));
    bucket.set("launches", json::Value(int64_t(llvm::range_size(program.getLaunches()))));
    bucket.set("arena_bytes", json::Value(int64_t(*program.getArenaBytes())));
    bucket.set("live_bytes", json::Value(int64_t(*program.getLiveBytes())));
    buckets.push(std::move(bucket));
  }
  result.set("buckets", std::move(buckets));
  return result;
}

} // namespace

json::Value makeReport(ModuleOp planned) {
  json::Value report;
  report.set("producer", json::Value(std::string("sluice-compile ") + kVersion));
  report.set("target", toJson(planned->getAttr(moe::MoeDialect::getTargetAttrName())));
  report.set("model", toJson(planned->getAttr(moe::MoeDialect::getModelAttrName())));
  report.set("limits", toJson(planned->getAttr(moe::MoeDialect::getLimitsAttrName())));
  json::Value ranks;
  for (auto rank : planned.getOps<plan::RankOp>())
    ranks.push(rankReport(rank));
  report.set("ranks", std::move(ranks));
  return report;
}

} // namespace sluice
