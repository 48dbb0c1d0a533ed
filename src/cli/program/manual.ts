import type { Command } from 'commander'
import { FAILURES } from '../../domain/failures.ts'

/** What the page of a command says beside its options and examples. */
interface Entry {
  /** Exit codes of its own, beside those that all have. */
  exits?: Record<number, string>
  /** Commands, or topics of `orrery help`, that belong to it. */
  see: readonly string[]
}

const OF_RUN = { 1: 'the run failed', 3: 'the run was canceled' }
const OUT_OF_TIME = { 124: 'the time of --timeout was over' }

/** Every command of the program; a test holds it against the program. */
export const MANUAL: Readonly<Record<string, Entry>> = {
  run: { exits: { ...OF_RUN, ...OUT_OF_TIME }, see: ['plan', 'runs watch', 'help workflow'] },
  plan: { exits: { 1: 'a step would fail' }, see: ['validate', 'run', 'help workflow'] },
  up: { see: ['worker', 'doctor', 'logs', 'help environment'] },
  worker: { see: ['up', 'workers list', 'help environment'] },
  'runs list': { see: ['runs show', 'status', 'top'] },
  'runs show': { see: ['explain', 'runs logs', 'events'] },
  'runs watch': { exits: { ...OF_RUN, ...OUT_OF_TIME }, see: ['runs wait', 'runs show', 'events'] },
  'runs wait': { exits: { ...OF_RUN, ...OUT_OF_TIME }, see: ['runs watch', 'runs list'] },
  'runs logs': { see: ['logs', 'runs show', 'artifacts list'] },
  'runs transcript': { see: ['runs logs', 'runs show', 'approvals list'] },
  'runs cancel': { see: ['runs retry', 'runs show'] },
  'runs retry': { see: ['runs skip', 'runs show', 'explain'] },
  'runs skip': { see: ['runs retry', 'runs show'] },
  'runs approve': { see: ['runs deny', 'approvals list'] },
  'runs deny': { see: ['runs approve', 'approvals list'] },
  'runs send': { see: ['runs show', 'help workflow'] },
  'runs nudge': { see: ['explain', 'runs show'] },
  events: { see: ['runs watch', 'runs logs'] },
  'artifacts list': { see: ['artifacts get', 'runs show'] },
  'artifacts get': { see: ['artifacts list'] },
  apply: { see: ['validate', 'diff', 'get', 'help workflow'] },
  validate: { see: ['apply', 'plan', 'help workflow'] },
  diff: { exits: { 1: 'something differs' }, see: ['apply', 'get'] },
  get: { see: ['describe', 'edit', 'apply'] },
  describe: { see: ['get', 'edit', 'runs list'] },
  edit: { see: ['apply', 'describe'] },
  delete: { see: ['get', 'apply'] },
  'approvals list': { see: ['approvals show', 'runs approve', 'runs deny'] },
  'approvals show': { see: ['approvals approve', 'approvals deny'] },
  'approvals approve': { see: ['approvals show', 'approvals deny'] },
  'approvals deny': { see: ['approvals show', 'approvals approve'] },
  'workers list': { see: ['worker', 'status', 'explain'] },
  status: { exits: { 1: 'steps wait that no worker serves' }, see: ['top', 'workers list', 'doctor'] },
  top: { see: ['status', 'runs list'] },
  logs: { see: ['runs logs', 'up', 'worker'] },
  'memory list': { see: ['memory search', 'memory get', 'get'] },
  'memory get': { see: ['memory list', 'memory put'] },
  'memory put': { see: ['memory get', 'memory ingest'] },
  'memory search': { see: ['memory list', 'memory check'] },
  'memory ingest': { see: ['memory search', 'memory delete'] },
  'memory delete': { see: ['memory list', 'audit'] },
  'memory check': { see: ['memory search', 'models test', 'secret show'] },
  'models list': { see: ['models test', 'get', 'apply'] },
  'tool init': { see: ['tool test', 'apply'] },
  'tool test': { exits: { 1: 'something came that the fixtures do not want' }, see: ['tool init', 'explain'] },
  'models test': { see: ['models ask', 'secret show', 'doctor'] },
  'models ask': { see: ['models test', 'models list'] },
  'mcp list': { see: ['mcp tools', 'get', 'apply'] },
  'mcp tools': { see: ['mcp call', 'mcp list'] },
  'mcp call': { see: ['mcp tools'] },
  'mcp serve': { see: ['auth whoami', 'up'] },
  'secret set': { see: ['secret show', 'secret list'] },
  'secret list': { see: ['secret show', 'secret set'] },
  'secret show': { see: ['secret set', 'secret delete'] },
  'secret delete': { see: ['secret list'] },
  'secret rotate': { see: ['secret generate-key', 'doctor'] },
  'secret generate-key': { see: ['secret rotate', 'up'] },
  'token create': { see: ['token list', 'auth login'] },
  'token list': { see: ['token create', 'token revoke'] },
  'token revoke': { see: ['token list', 'audit'] },
  'auth login': { see: ['auth whoami', 'auth logout', 'context list'] },
  'auth logout': { see: ['auth login', 'token revoke'] },
  'auth whoami': { see: ['can-i', 'context show'] },
  'can-i': { exits: { 1: 'no', 3: 'a person decides about the call' }, see: ['auth whoami', 'token create'] },
  'context list': { see: ['context use', 'auth login'] },
  'context use': { see: ['context list', 'context show'] },
  'context show': { see: ['context list', 'auth whoami'] },
  'context set': { see: ['context use', 'auth login'] },
  'context delete': { see: ['context list', 'auth logout'] },
  costs: { see: ['get', 'models list'] },
  audit: { see: ['token list', 'auth whoami'] },
  explain: { see: ['runs show', 'doctor', 'help exit-codes'] },
  init: { see: ['run', 'help workflow'] },
  completion: { see: ['help environment'] },
  doctor: {
    exits: { 1: 'something is to be looked at', 2: 'something is broken, or the command line is not understood' },
    see: ['status', 'logs', 'help environment'],
  },
  version: { see: ['doctor'] },
  help: { see: ['explain', 'version'] },
}

/** The last part of a command's help: how it exits, and what belongs to it. */
export function manualText(path: string, command: Command): string {
  const entry = MANUAL[path]
  const asks = command.options.some((option) => option.long === '--server')
  const exits = {
    0: 'done',
    [FAILURES['request.invalid'].exit]: 'the command line is not understood, or the request is not valid',
    ...(asks ? { [FAILURES['client.server_unreachable'].exit]: 'the server cannot be reached' } : {}),
    ...(asks ? { [FAILURES['client.unauthorized'].exit]: 'the server does not take the token' } : {}),
    ...entry?.exits,
  }
  const lines = Object.entries(exits).map(([code, text]) => `  ${code.padEnd(4)} ${text}`)
  const also = entry?.see.map((name) => `orrery ${name}`).join(', ')
  return [
    '\nExit codes:',
    ...lines,
    '  orrery help exit-codes lists all; orrery explain CODE says what to do about a failure.',
    ...(also === undefined ? [] : ['\nSee also:', `  ${also}`]),
  ].join('\n')
}
