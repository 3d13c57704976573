// How often things are asked for.

/** Returns a function that does `work`, one at a time: what is asked for meanwhile is done once, afterwards. */
export function oneByOne(work) {
  let isBusy = false;
  let isDue = false;
  return async () => {
    isDue = true;
    if (isBusy) return;
    isBusy = true;
    try {
      while (isDue) {
        isDue = false;
        await work();
      }
    } finally {
      isBusy = false;
    }
  };
}

/**
 * Returns a function that does `work` soon, and the less often the longer it takes.
 * @param {number} pause the least time between (ms)
 * @param {number} share how many times as long as the work took
 */
export function unhurried(work, pause, share) {
  let next = performance.now() + pause;
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    setTimeout(
      async () => {
        const begin = performance.now();
        await work();
        next = performance.now() + Math.max(pause, share * (performance.now() - begin));
        isDue = false;
      },
      Math.max(0, next - performance.now()),
    );
  };
}
