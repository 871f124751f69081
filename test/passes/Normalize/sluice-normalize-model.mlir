// What does nothing goes, equal weights become one, unused weights and caches are dropped.
//
// RUN: sluice-opt --sluice-normalize-model %s | FileCheck %s

// CHECK: moe.weight @embed :
// CHECK-NOT: moe.weight @head
// CHECK-NOT: moe.weight @unused
// CHECK: moe.weight @scaled_a :
// CHECK: moe.weight @scaled_b :
// CHECK-NOT: moe.kv_cache
moe.weight @embed : tensor<64x32xbf16> = #moe.source<"embed" in "m.safetensors" : tensor<64x32xbf16>>
moe.weight @head : tensor<64x32xbf16> = #moe.source<"embed" in "m.safetensors" : tensor<64x32xbf16>>
moe.weight @unused : tensor<32xbf16> = #moe.source<"rotary.inv_freq" in "m.safetensors" : tensor<32xbf16>>
// Equal codes with scales of their own are different numbers: both stay.
moe.weight @scaled_a : tensor<32x32xf32> = #moe.dequantize<#moe.source<"q" in "m.safetensors" : tensor<32x32xi8>>
  by #moe.source<"a" in "m.safetensors" : tensor<32x1xf32>> group = 32>
moe.weight @scaled_b : tensor<32x32xf32> = #moe.dequantize<#moe.source<"q" in "m.safetensors" : tensor<32x32xi8>>
  by #moe.source<"b" in "m.safetensors" : tensor<32x1xf32>> group = 32>
moe.kv_cache @unused.kv heads 1 key 32 value 32 : f32

// CHECK-LABEL: func.func @step(
// CHECK-SAME: %[[IDS:.*]]: tensor<?xi32>, %[[BATCH:.*]]: !moe.batch)
func.func @step(%ids: tensor<?xi32>, %batch: !moe.batch) -> tensor<?x64xf32> {
  // CHECK-NEXT: %[[X:.*]] = moe.embedding %[[IDS]] table @embed
  %x = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %t = moe.temperature %x at %batch scale 0.0 floor_scale 8192.0 : tensor<?x32xf32>
  // CHECK-NEXT: %[[C:.*]] = moe.clamp %[[X]] to 4.0
  %c = moe.clamp %t to 4.0 : tensor<?x32xf32>
  %d = moe.clamp %c to 8.0 : tensor<?x32xf32>
  // CHECK-NEXT: %[[A:.*]] = moe.linear %[[C]] weight @scaled_a
  %a = moe.linear %d weight @scaled_a : tensor<?x32xf32> -> tensor<?x32xf32>
  %b = moe.linear %a weight @scaled_b : tensor<?x32xf32> -> tensor<?x32xf32>
  // CHECK: %[[H:.*]] = moe.linear %{{.*}} weight @embed
  %h = moe.linear %b weight @head : tensor<?x32xf32> -> tensor<?x64xf32>
  // CHECK-NEXT: return %[[H]]
  return %h : tensor<?x64xf32>
}
