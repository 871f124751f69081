//===- Families.cpp - The table of model families ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A new family is one file in this folder, one declaration in Families.h and one row here.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/models/Families.h"

namespace sluice {

static constexpr llvm::StringLiteral mixtralArchitectures[] = {"MixtralForCausalLM"};

static const ModelFamily families[] = {
    {"mixtral", mixtralArchitectures, "f32, bf16, f16", importMixtral},
};

llvm::ArrayRef<ModelFamily> allModelFamilies() { return families; }

} // namespace sluice
