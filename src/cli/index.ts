export type {
  CliDeps,
  EmbeddedHandle,
  EmbeddedOptions,
  HostQuestion,
  LogFiles,
  LogFormat,
  LogLevel,
  ProjectFile,
  SecretsOptions,
  Signal,
  StoreOptions,
  Terminal,
  UpHandle,
  UpOptions,
  WorkerHandle,
  WorkerOptions,
} from './deps.ts'
export { runCli } from './run-cli.ts'
