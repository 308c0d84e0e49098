/**
 * Makes a function of the world of `run`. What `run` throws is the task's failure if it is no `Error`: there is no other
 * attempt. An `Error` ends the attempt as a trap, with its text in the task's log, and the task is tried again.
 */
export function task<A extends unknown[], R>(run: (...args: A) => R | Promise<R>): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return await run(...args);
    } catch (thrown) {
      if (thrown instanceof Error) {
        console.error(`${thrown}\n${thrown.stack}`);
      }
      throw thrown;
    }
  };
}
