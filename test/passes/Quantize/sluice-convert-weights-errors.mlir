// RUN: sluice-opt --sluice-convert-weights=format=fp3 %s -verify-diagnostics

// expected-error@+1 {{unknown weight format 'fp3'; known are keep, bf16, f16 and f32}}
module {
}
