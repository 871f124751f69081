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

mlir::LogicalResult importDbrx(ModelBuilder &model);
mlir::LogicalResult importDeepseekV2(ModelBuilder &model);
mlir::LogicalResult importDeepseekV3(ModelBuilder &model);
mlir::LogicalResult importErnie4_5Moe(ModelBuilder &model);
mlir::LogicalResult importGlm4Moe(ModelBuilder &model);
mlir::LogicalResult importGptOss(ModelBuilder &model);
mlir::LogicalResult importGraniteMoe(ModelBuilder &model);
mlir::LogicalResult importLlama4(ModelBuilder &model);
mlir::LogicalResult importMiniMaxM2(ModelBuilder &model);
mlir::LogicalResult importMistralLarge3(ModelBuilder &model);
mlir::LogicalResult importMixtral(ModelBuilder &model);
mlir::LogicalResult importOlmoe(ModelBuilder &model);
mlir::LogicalResult importPhimoe(ModelBuilder &model);
mlir::LogicalResult importQwen2Moe(ModelBuilder &model);
mlir::LogicalResult importQwen3Moe(ModelBuilder &model);

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_MODELS_FAMILIES_H
