import { OPERATION_CLASSES } from '../domain/agents/verdict.ts'
import { isFailureCode } from '../domain/failures.ts'
import { PROVIDERS } from '../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../domain/limits.ts'
import { CURRENCY } from '../domain/currency.ts'
import type { AppendRequest } from './exchange.ts'
import { isCount, isFailureRecord, isId, isMembers, isName } from './hot-messages.ts'

/** The check of an append by hand, see hot-messages.ts: it accepts what `AppendSchema` accepts. */

type Members = Record<string, unknown>

const oneOf = (words: readonly string[]): ((v: unknown) => boolean) => {
  const known = new Set<unknown>(words)
  return (v) => known.has(v)
}
const isPurpose = oneOf(['turn', 'repair', 'judge', 'route'])
const isProvider = oneOf(PROVIDERS)
const isFinish = oneOf(['stop', 'length', 'tool-calls', 'content-filter', 'other'])
const isOperation = oneOf(OPERATION_CLASSES)

const isText = (v: unknown): v is string => typeof v === 'string'
const isNameOrNone = (v: unknown): boolean => typeof v === 'string' && v.length <= 256
const isWhole = (v: unknown): boolean => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0
const isTokens = (v: unknown): boolean => isWhole(v) && (v as number) <= LIMITS.callTokensMax
const isMs = (v: unknown): boolean => typeof v === 'number' && v >= 0 && v <= LIMITS.parkedMs
const isCode = (v: unknown): boolean => typeof v === 'string' && isFailureCode(v)
const isListOf = (v: unknown, fits: (one: unknown) => boolean): boolean =>
  Array.isArray(v) && (v as unknown[]).every(fits)
const has = (v: unknown, members: number): v is Members => isMembers(v) && Object.keys(v).length === members

const isUsage = (v: unknown): boolean =>
  has(v, 6) &&
  isTokens(v['inputTokens']) &&
  isTokens(v['outputTokens']) &&
  isTokens(v['cachedInputTokens']) &&
  isTokens(v['cacheWriteTokens']) &&
  isTokens(v['reasoningTokens']) &&
  typeof v['isEstimated'] === 'boolean'

const isMoney = (v: unknown): boolean => typeof v === 'number' && v >= 0 && v <= LIMITS.callMoneyMax

const isCost = (v: unknown): boolean =>
  v === null || (has(v, 2) && isText(v['currency']) && CURRENCY.test(v['currency']) && isMoney(v['amount']))

const isToolCall = (v: unknown): boolean =>
  has(v, 4) &&
  isName(v['id']) &&
  isName(v['name']) &&
  isText(v['text']) &&
  (v['input'] === null || isMembers(v['input']))

const isTried = (v: unknown): boolean =>
  has(v, 4) && isText(v['endpoint']) && isWhole(v['tries']) && isCode(v['code']) && isText(v['message'])

const isResult = (v: unknown): boolean =>
  has(v, 11) &&
  isName(v['endpoint']) &&
  isProvider(v['provider']) &&
  isName(v['model']) &&
  isText(v['text']) &&
  isListOf(v['toolCalls'], isToolCall) &&
  isFinish(v['finish']) &&
  isUsage(v['usage']) &&
  isCost(v['cost']) &&
  isListOf(v['warnings'], isText) &&
  isListOf(v['tried'], isTried) &&
  isMs(v['totalMs'])

function isToolResult(v: unknown): boolean {
  if (!isMembers(v)) return false
  if (v['ok'] === true) return has(v, 2) && Object.hasOwn(v, 'output')
  const withEvidence = Object.hasOwn(v, 'evidence')
  if (withEvidence && !isMembers(v['evidence'])) return false
  return (
    v['ok'] === false &&
    has(v, withEvidence ? 5 : 4) &&
    isCode(v['code']) &&
    isText(v['reason']) &&
    typeof v['retryable'] === 'boolean'
  )
}

const isReserve = (v: unknown): boolean => has(v, 2) && isTokens(v['input']) && isTokens(v['output'])

function isEntry(v: unknown): boolean {
  if (!isMembers(v)) return false
  switch (v['kind']) {
    case 'model_asked':
      return (
        has(v, 7) &&
        isId(v['call']) &&
        isWhole(v['turn']) &&
        isPurpose(v['purpose']) &&
        isNameOrNone(v['agent']) &&
        isName(v['endpoint']) &&
        isReserve(v['tokens'])
      )
    case 'model_answered':
      return has(v, 3) && isId(v['call']) && isResult(v['result'])
    case 'model_failed':
      return has(v, 3) && isId(v['call']) && isFailureRecord(v['failure'])
    case 'tool_asked':
      return (
        has(v, 8) &&
        isId(v['call']) &&
        isWhole(v['turn']) &&
        isNameOrNone(v['agent']) &&
        isName(v['tool']) &&
        isOperation(v['operation']) &&
        isMembers(v['input']) &&
        typeof v['repeatable'] === 'boolean'
      )
    case 'tool_answered':
      return has(v, 5) && isId(v['call']) && isToolResult(v['result']) && isMs(v['ms']) && isWhole(v['cut'])
    case 'handed_over':
      return has(v, 4) && isWhole(v['turn']) && isName(v['from']) && isName(v['to'])
    default:
      return false
  }
}

export function isAppendRequest(v: unknown): v is AppendRequest {
  if (!has(v, 5) || !isId(v['session']) || !isId(v['step']) || !isCount(v['fence']) || !isCount(v['n'])) return false
  const entries = v['entries']
  if (!Array.isArray(entries) || entries.length === 0 || entries.length > LIMITS.journalAppendMax) return false
  // What comes behind a model that may be refused would not know of it.
  return (entries as unknown[]).every(
    (entry, i) => isEntry(entry) && (i === entries.length - 1 || (entry as Members)['kind'] !== 'model_asked'),
  )
}
