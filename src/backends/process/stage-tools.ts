// What only attempts with several commands, a taken output or exported variables need. Loaded at the first of them: a shim host of plain commands
// starts without the catalogue of failures, and so a quarter sooner.
export { takeExports } from '../hand-on.ts'
export { findExecutable } from './find-executable.ts'
export { OutputTaker } from './output-taker.ts'
export { startFailure } from './start-failure.ts'
