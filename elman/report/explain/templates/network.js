// The network of elman/textbook.py, with the same functions and symbols:
//   a_t = U x_t + W h_{t-1} + b     h_t = g(a_t)     h_0 = 0     o_t = V h_t + c     y_t = softmax(o_t)
// Vectors are arrays, matrices are arrays of rows. Index 0 is step 1.

const ACTIVATIONS = {
  tanh: { value: Math.tanh, slope: (h) => 1 - h * h },
  sigmoid: { value: (a) => 1 / (1 + Math.exp(-a)), slope: (h) => h * (1 - h) },
  relu: { value: (a) => Math.max(a, 0), slope: (h) => (h > 0 ? 1 : 0) },
};

const sum = (values) => values.reduce((s, v) => s + v, 0);
function dot(v, w) {
  let s = 0; // a plain loop, since training calls this millions of times
  for (let i = 0; i < v.length; i++) s += v[i] * w[i];
  return s;
}
const norm = (values) => Math.sqrt(sum(values.flat().map((v) => v * v)));
const transpose = (M) => M[0].map((_, j) => M.map((row) => row[j]));
const times = (M, v) => M.map((row) => dot(row, v));
const outer = (v, w) => v.map((left) => w.map((right) => left * right));
function product(M, N) {
  const columns = transpose(N);
  return M.map((row) => times(columns, row));
}
const zip = (f, v, w) => v.map((value, i) => (Array.isArray(value) ? zip(f, value, w[i]) : f(value, w[i])));
const plus = (v, w) => zip((a, b) => a + b, v, w);
const zeros = (shaped) => zip(() => 0, shaped, shaped);

function softmax(o) {
  const most = Math.max(...o);
  const e = o.map((value) => Math.exp(value - most));
  const all = sum(e);
  return e.map((value) => value / all);
}

function forward(p, x, g) {
  const a = [],
    h = [],
    o = [],
    y = [];
  let before = zeros(p.b);
  for (const x_t of x) {
    a.push(plus(plus(times(p.U, x_t), times(p.W, before)), p.b));
    h.push(a.at(-1).map(ACTIVATIONS[g].value));
    o.push(plus(times(p.V, h.at(-1)), p.c));
    y.push(softmax(o.at(-1)));
    before = h.at(-1);
  }
  return { a, h, o, y };
}

// Returns the loss L_t of each step; their sum is the cross-entropy averaged over the words.
const losses = (y, targets) => y.map((y_t, t) => -Math.log(dot(y_t, targets[t])) / y.length);

const outputGradient = (y, targets) => zip((a, b) => (a - b) / y.length, y, targets);

// Returns the Jacobian dh_j/dh_{j-1} = diag(g'(a_j)) W.
function jacobian(p, h_j, g) {
  return p.W.map((row, i) => row.map((w) => ACTIVATIONS[g].slope(h_j[i]) * w));
}

// Returns dL_t/dh_k and dL_t/da_k for every step t and every k <= t.
function terms(p, run, dO, g) {
  const [V_T, W_T] = [transpose(p.V), transpose(p.W)];
  return run.h.map((_, t) => {
    const found = [];
    let arriving = times(V_T, dO[t]);
    for (let k = t; k >= 0; k--) {
      const da = zip((value, h) => value * ACTIVATIONS[g].slope(h), arriving, run.h[k]);
      found[k] = { dh: arriving, da };
      arriving = times(W_T, da);
    }
    return found;
  });
}

// Returns the contribution of the term (t, k) to the gradients of U, W and b.
function term(da, x_k, before) {
  return { U: outer(da, x_k), W: outer(da, before), b: da };
}

// Returns the gradient in O(T): dL/dh_t is accumulated from later steps instead of summed over all pairs.
function bptt(p, run, x, dO, g) {
  const [V_T, W_T] = [transpose(p.V), transpose(p.W)];
  const da = [];
  let later = zeros(p.b);
  for (let t = x.length - 1; t >= 0; t--) {
    const dh = plus(times(V_T, dO[t]), later);
    da[t] = dh.map((value, i) => value * ACTIVATIONS[g].slope(run.h[t][i]));
    later = times(W_T, da[t]);
  }
  const [da_T, dO_T] = [transpose(da), transpose(dO)];
  return {
    U: product(da_T, x),
    W: product(da_T, [zeros(p.b), ...run.h.slice(0, -1)]),
    V: product(dO_T, run.h),
    b: da_T.map(sum),
    c: dO_T.map(sum),
  };
}

function descend(p, gradient, rate) {
  return Object.fromEntries(
    Object.keys(p).map((name) => [name, zip((w, dw) => w - rate * dw, p[name], gradient[name])]),
  );
}

// Runs gradient descent from the weights p; returns the weights and the loss before the first step and after each step.
function train(p, x, targets, g, rate, steps) {
  const path = [];
  for (let step = 0; ; step++) {
    const run = forward(p, x, g);
    path.push({ p, loss: sum(losses(run.y, targets)) });
    if (step === steps) return path;
    p = descend(p, bptt(p, run, x, outputGradient(run.y, targets), g), rate);
  }
}
