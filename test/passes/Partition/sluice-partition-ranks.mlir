// RUN: sluice-opt --sluice-partition-ranks %s | FileCheck %s

// CHECK: func.func @rank0(%{{.*}}: tensor<?x32xf32>) -> tensor<?x32xf32> attributes {moe.rank = 0 : i64}
func.func @step(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  return %x : tensor<?x32xf32>
}
