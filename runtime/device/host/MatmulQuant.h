//===- MatmulQuant.h - Products with quantised weights ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The variants behind choosePanelProduct() for quantised formats, one source file per width of the
// codes because they are slow to compile.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_H
#define SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_H

#include "runtime/device/host/Matmul.h"

namespace sluice::host {

/// The product for codes of 8 bits: f8e4m3 and i8.
PanelProduct *chooseByteProduct(quant::ElementType type);

/// The product for codes of 4 bits: i4 and f4e2m1.
PanelProduct *chooseNibbleProduct(quant::ElementType type);

} // namespace sluice::host

#endif // SLUICE_RUNTIME_DEVICE_HOST_MATMULQUANT_H
