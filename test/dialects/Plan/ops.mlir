// Every operation of the dialect survives printing and parsing, in both phases.
//
// RUN: sluice-opt %s | sluice-opt | FileCheck %s
// RUN: sluice-opt --mlir-print-op-generic %s | sluice-opt | FileCheck %s

module attributes {
  moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64},
  plan.buckets = array<i64: 1, 4>
} {

// CHECK: plan.kernel @linear_0 = "linear"(n = 16, k = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
// CHECK: plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0e-05)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 0.00001)

moe.weight @layers.0.out : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>

// CHECK-LABEL: plan.rank @rank0 number 0 {
plan.rank @rank0 number 0 {
  // CHECK: plan.weight @layers.0.out from @layers.0.out layout "panel16" format "f32" bytes 1024{{$}}
  plan.weight @layers.0.out from @layers.0.out layout "panel16" format "f32" bytes 1024
  // CHECK: plan.cache @layers.0.kv.keys bytes 4096{{$}}
  plan.cache @layers.0.kv.keys bytes 4096
  // CHECK: plan.io @header bytes 32{{$}}
  plan.io @header bytes 32

  // CHECK: plan.program @tokens4 tokens 4 {
  plan.program @tokens4 tokens 4 {
    // CHECK: %header = plan.async.io @header : !plan.buffer<32>
    %header = plan.async.io @header : !plan.buffer<32>
    // CHECK: %{{.*}} = plan.async.io @header at 16 : !plan.buffer<16>
    %part = plan.async.io @header at 16 : !plan.buffer<16>
    // CHECK: %{{.*}} = plan.async.cache @layers.0.kv.keys : !plan.buffer<4096>
    %keys = plan.async.cache @layers.0.kv.keys : !plan.buffer<4096>
    // CHECK: %layers.0.norm.out = plan.async.transient "layers.0.norm.out" : !plan.buffer<256>
    %x = plan.async.transient "layers.0.norm.out" : !plan.buffer<256>
    // CHECK: %layers.0.out = plan.async.weight @layers.0.out : !plan.buffer<1024>
    %w = plan.async.weight @layers.0.out : !plan.buffer<1024>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // CHECK: plan.async.launch @linear_0(%header[32], %layers.0.norm.out[256], %layers.0.out[1024], none, %y[256]) stream 0 label "layers.0.out"
    plan.async.launch @linear_0(%header[32], %x[256], %w[1024], none, %y[256]) stream 0 label "layers.0.out"
    // CHECK: %[[EVENT:.*]] = plan.async.record stream 0
    %done = plan.async.record stream 0
    // CHECK: plan.async.wait %[[EVENT]] stream 1
    plan.async.wait %done stream 1
    // CHECK: plan.async.collective all_reduce %y into %layers.0.norm.out of f32 among [0, 1] stream 1 label "reduce" : !plan.buffer<256>, !plan.buffer<256>
    plan.async.collective all_reduce %y into %x of f32 among [0, 1] stream 1 label "reduce" : !plan.buffer<256>, !plan.buffer<256>
    // CHECK: plan.async.collective broadcast %y into %layers.0.norm.out of f32 among [0, 1] root 1 stream 1 label "cast"
    plan.async.collective broadcast %y into %x of f32 among [0, 1] root 1 stream 1 label "cast" : !plan.buffer<256>, !plan.buffer<256>
    %wide = plan.async.transient "wide" : !plan.buffer<512>
    // CHECK: plan.async.collective all_gather
    plan.async.collective all_gather %x into %wide of f32 among [0, 1] stream 1 label "gather" : !plan.buffer<256>, !plan.buffer<512>
    // CHECK: plan.async.collective reduce_scatter
    plan.async.collective reduce_scatter %wide into %x of f32 among [1, 0] stream 1 label "scatter" : !plan.buffer<512>, !plan.buffer<256>
    %counts = plan.async.io @header at 16 : !plan.buffer<8>
    // CHECK: plan.async.collective all_gather %y into %layers.0.norm.out of f32 among [0, 1] rows %{{.*}} : !plan.buffer<8> width 16 stream 1 label "rows" : !plan.buffer<256>, !plan.buffer<256>
    plan.async.collective all_gather %y into %x of f32 among [0, 1] rows %counts : !plan.buffer<8> width 16 stream 1 label "rows" : !plan.buffer<256>, !plan.buffer<256>
    // CHECK: plan.async.collective all_to_all
    plan.async.collective all_to_all %x into %y of f32 among [0, 1] stream 1 label "exchange" : !plan.buffer<256>, !plan.buffer<256>
  }
}

// CHECK-LABEL: plan.rank @rank1 number 1 {
plan.rank @rank1 number 1 {
  // CHECK: plan.slab weights bytes 4096 align 4096
  plan.slab weights bytes 4096 align 4096
  plan.slab kv bytes 4096 align 4096
  plan.slab arena bytes 512 align 256
  plan.slab io bytes 256 align 256
  // CHECK: plan.weight @layers.0.out from @layers.0.out layout "panel16" format "f32" bytes 1024 at 0
  plan.weight @layers.0.out from @layers.0.out layout "panel16" format "f32" bytes 1024 at 0
  // CHECK: plan.cache @layers.0.kv.keys bytes 4096 at 0
  plan.cache @layers.0.kv.keys bytes 4096 at 0
  // CHECK: plan.io @header bytes 32 at 0
  plan.io @header bytes 32 at 0
  // CHECK: plan.program @tokens4 tokens 4 arena 512 live 512 {
  plan.program @tokens4 tokens 4 arena 512 live 512 {
    // CHECK: plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, arena[256 for 256]) stream 0 label "layers.0.out"
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, arena[256 for 256]) stream 0 label "layers.0.out"
    // CHECK: plan.cmd.launch @residual_0(io[0 for 32], arena[0 for 256], arena[256 for 256], arena[0 for 256]) stream 0 label "in place"
    plan.cmd.launch @residual_0(io[0 for 32], arena[0 for 256], arena[256 for 256], arena[0 for 256]) stream 0 label "in place"
    // CHECK: plan.cmd.record event 0 stream 0
    plan.cmd.record event 0 stream 0
    // CHECK: plan.cmd.wait event 0 stream 1
    plan.cmd.wait event 0 stream 1
    // CHECK: plan.cmd.collective all_reduce arena[0 for 256] into arena[0 for 256] of f32 among [0, 1] stream 1 label "reduce"
    plan.cmd.collective all_reduce arena[0 for 256] into arena[0 for 256] of f32 among [0, 1] stream 1 label "reduce"
    // CHECK: plan.cmd.collective reduce_scatter arena[0 for 256] into arena[256 for 256] of f32 among [0, 1] rows io[16 for 8] width 16 stream 1 label "rows"
    plan.cmd.collective reduce_scatter arena[0 for 256] into arena[256 for 256] of f32 among [0, 1] rows io[16 for 8] width 16 stream 1 label "rows"
  }
}
}
