//===- Families.h - Import functions of the model families --------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One declaration per file of this folder; Families.cpp is the table of them.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_MODELS_FAMILIES_H
#define SLUICE_COMPILER_IMPORTERS_MODELS_FAMILIES_H

#include "compiler/importers/ModelBuilder.h"

namespace sluice {

mlir::LogicalResult importMixtral(ModelBuilder &model);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_MODELS_FAMILIES_H
