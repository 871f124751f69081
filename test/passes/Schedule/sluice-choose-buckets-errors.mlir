// RUN: not sluice-opt --sluice-choose-buckets="buckets=8,4" %s 2>&1 | FileCheck %s --check-prefix=ORDER
// RUN: not sluice-opt --sluice-choose-buckets="buckets=128" %s 2>&1 | FileCheck %s --check-prefix=LARGE
// RUN: not sluice-opt --sluice-choose-buckets="buckets=8 arrivals=8:1" %s 2>&1 | FileCheck %s --check-prefix=BOTH
// RUN: not sluice-opt --sluice-choose-buckets="arrivals=8" %s 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not sluice-opt --sluice-choose-buckets="arrivals=101:1" %s 2>&1 | FileCheck %s --check-prefix=OUTSIDE
// RUN: not sluice-opt --sluice-choose-buckets="arrivals=8:1 max-buckets=0" %s 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: echo "module {}" | not sluice-opt --sluice-choose-buckets 2>&1 | FileCheck %s --check-prefix=LIMITS

// ORDER: error: cannot choose buckets: bucket 4 follows 8; token counts must ascend from 1
// LARGE: error: cannot choose buckets: bucket 128 exceeds max_batch_tokens = 100
// BOTH: error: cannot choose buckets: buckets and arrivals exclude each other; give one of them
// FORM: error: cannot choose buckets: arrival "8" is not TOKENS:COUNT, as in 16:250
// OUTSIDE: error: cannot choose buckets: steps of 101 tokens are outside [1, 100]
// NONE: error: cannot choose buckets: max_batch_tokens = 100 and max_buckets = 0 must be at least 1
// LIMITS: error: cannot choose buckets: module attribute 'moe.limits' with max_batch_tokens is missing
module attributes {
  moe.limits = {max_batch_tokens = 100 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}
} {}
