import { createHmac } from 'node:crypto'
import type { Json, JsonObject } from '../../base/json.ts'
import { Failure } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import { isObject } from '../placed-problem.ts'
import { DATA_KINDS, type DataKindName, patternOfKind } from './data-kinds.ts'
import { compilePattern, type Found, type LinearPattern } from './linear-pattern.ts'
import type { RuleName } from './verdict.ts'

/** `prompts`: all that a model is sent. `answers`: what it says. `tools`: what tools are called with. */
export const DATA_PLACES = ['prompts', 'answers', 'tools'] as const
export type DataPlace = (typeof DATA_PLACES)[number]

/** From the mildest to the strictest: where two rules find the same, the stricter one counts. */
export const DATA_ACTIONS = ['pseudonymise', 'redact', 'block'] as const
export type DataAction = (typeof DATA_ACTIONS)[number]

export interface DataRule {
  rule: RuleName
  /** What people call the data; it stands in place of what is redacted. */
  name: string
  find: { kind: DataKindName } | { pattern: string; ignoreCase: boolean }
  action: DataAction
  on: readonly DataPlace[]
  /** What its pseudonyms are made with, so that nobody who sees one can try out what it stands for. */
  salt: string
}

/** What rules ask of a worker, which has to hold to it by itself. */
export interface DataRules {
  rules: readonly DataRule[]
  /** Hosts that tools may call, a list for each policy that says so: a host has to be in all of them. Empty: any. */
  egress: readonly { rule: RuleName; hosts: readonly string[] }[]
}

export const NO_DATA_RULES: DataRules = { rules: [], egress: [] }

/** Pseudonyms of one activation of a step, by what they stand for. */
export interface Pseudonyms {
  activation: string
  /** Original by pseudonym. */
  known: Readonly<Record<string, string>>
}

/** The same activation gives the same pseudonyms in every attempt: what an earlier one replaced is restored by a later one. */
export const openPseudonyms = (activation: string): Pseudonyms => ({ activation, known: {} })

/** What was found, never the text itself. */
export interface DataFinding {
  rule: RuleName
  name: string
  action: DataAction
  /** Where, as the caller named it. */
  place: string
  count: number
}

export interface PlacedText {
  /** For findings and failures: `message 3 (user)`. */
  place: string
  text: string
}

interface Applied {
  texts: string[]
  findings: DataFinding[]
  pseudonyms: Pseudonyms
}

/**
 * Texts as they may go on. Throws `policy.denied` when something in them may not go anywhere: with the name of the data and the place, never with
 * the text. A rule that cannot be read throws as well: nothing goes on that was not looked at. Twice over its own result changes nothing. Pure.
 */
export function applyDataRules(
  texts: readonly PlacedText[],
  on: DataPlace,
  { rules }: Pick<DataRules, 'rules'>,
  pseudonyms: Pseudonyms,
): Applied {
  const finders = rules.filter((rule) => rule.on.includes(on)).map(finderOf)
  if (finders.length === 0) return { texts: texts.map(({ text }) => text), findings: [], pseudonyms }
  const known = new Map(Object.entries(pseudonyms.known))
  const byOriginal = new Map([...known].map(([pseudonym, original]) => [original, pseudonym]))
  const findings: DataFinding[] = []
  const replace = (rule: DataRule, original: string): string => {
    const former = byOriginal.get(original)
    if (rule.action !== 'pseudonymise' || (former === undefined && known.size >= LIMITS.pseudonymsMax))
      return markOf(rule)
    const pseudonym = former ?? pseudonymOf(pseudonyms.activation, rule, original, known)
    known.set(pseudonym, original)
    byOriginal.set(original, pseudonym)
    return pseudonym
  }
  const done = texts.map(({ text, place }) => {
    const { spans } = spansIn(text, finders, known, WHOLE)
    findings.push(...findingsOf(spans, place))
    return withSpans(text, { from: 0, to: text.length }, spans, replace)
  })
  refuseBlocked(findings)
  return { texts: done, findings, pseudonyms: { ...pseudonyms, known: Object.fromEntries(known) } }
}

/** The same for all texts in a value: its keys too, because they go where it goes. */
export function applyDataRulesTo<T extends Json>(
  value: T,
  place: string,
  on: DataPlace,
  rules: Pick<DataRules, 'rules'>,
  pseudonyms: Pseudonyms,
): { value: T; findings: DataFinding[]; pseudonyms: Pseudonyms } {
  const all: PlacedText[] = []
  mapTexts(value, (text) => {
    all.push({ place, text })
    return text
  })
  const applied = applyDataRules(all, on, rules, pseudonyms)
  let at = 0
  const done = mapTexts(value, () => applied.texts[at++] ?? '')
  return { value: done, findings: applied.findings, pseudonyms: applied.pseudonyms }
}

interface Finder {
  rule: DataRule
  pattern: LinearPattern
  isReal: (text: string) => boolean
}

const compiled = new Map<string, LinearPattern>()

function finderOf(rule: DataRule): Finder {
  if ('kind' in rule.find) {
    const kind = rule.find.kind
    return { rule, pattern: patternOfKind(kind), isReal: DATA_KINDS[kind].isReal }
  }
  const key = JSON.stringify([rule.find.pattern, rule.find.ignoreCase])
  const known = compiled.get(key)
  if (known) return { rule, pattern: known, isReal: () => true }
  const made = compilePattern(rule.find.pattern, rule.find)
  if (made.kind === 'wrong')
    throw new Failure('policy.denied', `looking for ${rule.name} as ${rule.rule} says`, {
      evidence: { rule: rule.rule, pattern: rule.name, problem: made.message },
      remediation:
        'The pattern of this rule cannot be read, and nothing goes on that was not looked at: correct the policy.',
    })
  if (compiled.size >= LIMITS.rulesMax) compiled.clear()
  compiled.set(key, made.pattern)
  return { rule, pattern: made.pattern, isReal: () => true }
}

interface Span extends Found {
  rule: DataRule
}

const strictnessOf = (rule: DataRule): number => DATA_ACTIONS.indexOf(rule.action)

/** The stricter one; of two alike the one whose name comes first, so that the order of rules means nothing. */
const stricter = (a: DataRule, b: DataRule): DataRule => {
  const byAction = strictnessOf(a) - strictnessOf(b)
  if (byAction !== 0) return byAction > 0 ? a : b
  return `${a.name} ${a.rule}` <= `${b.name} ${b.rule}` ? a : b
}

const WHOLE = { from: 0, isWhole: true }

/** What stands in place of what was found. */
const markOf = ({ name }: DataRule): string => `[redacted: ${name}]`

/**
 * What is to be replaced, from left to right, and up to where that is certain. Finds that overlap are one, under the strictest of their rules; what
 * was put there by a rule itself is none.
 */
function spansIn(
  text: string,
  finders: readonly Finder[],
  known: ReadonlyMap<string, string>,
  options: { from: number; isWhole: boolean },
): { spans: Span[]; settled: number } {
  const mine = [...pseudonymsIn(text, known), ...finders.flatMap(({ rule }) => placesOf(markOf(rule), text))]
  const isMine = ({ start, end }: Found): boolean => mine.some((one) => one.start <= start && end <= one.end)
  let settled = text.length
  const all = finders.flatMap(({ rule, pattern, isReal }) => {
    const so = pattern.findSoFar(text, options)
    settled = Math.min(settled, so.settled)
    return so.found
      .filter((found) => isReal(text.slice(found.start, found.end)) && !isMine(found))
      .map((found): Span => ({ ...found, rule }))
  })
  all.sort((a, b) => a.start - b.start || b.end - a.end)
  const spans: Span[] = []
  for (const span of all) {
    const last = spans.at(-1)
    if (last && span.start < last.end) {
      last.end = Math.max(last.end, span.end)
      last.rule = stricter(last.rule, span.rule)
    } else spans.push({ ...span })
  }
  // What one rule has found may yet become part of what another one finds.
  for (const { start, end } of spans) if (end > settled) settled = Math.min(settled, start)
  return { spans: spans.filter(({ end }) => end <= settled), settled }
}

function placesOf(part: string, text: string): Found[] {
  const found: Found[] = []
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length))
    found.push({ start: at, end: at + part.length })
  return found
}

function withSpans(
  text: string,
  { from, to }: { from: number; to: number },
  spans: readonly Span[],
  replace: (rule: DataRule, original: string) => string,
): string {
  let result = ''
  let at = from
  for (const { start, end, rule } of spans) {
    result += text.slice(at, start) + replace(rule, text.slice(start, end))
    at = end
  }
  return result + text.slice(at, to)
}

function findingsOf(spans: readonly Span[], place: string): DataFinding[] {
  const counts = new Map<DataRule, number>()
  for (const { rule } of spans) counts.set(rule, (counts.get(rule) ?? 0) + 1)
  return [...counts].map(([{ rule, name, action }, count]) => ({ rule, name, action, place, count }))
}

function refuseBlocked(findings: readonly DataFinding[]): void {
  const blocked = findings.filter(({ action }) => action === 'block')
  const [first] = blocked
  if (!first) return
  throw new Failure('policy.denied', `sending on ${first.place}, in which ${first.name} was found`, {
    evidence: {
      rule: first.rule,
      found: blocked.map(({ rule, name, place, count }) => ({ rule, pattern: name, place, count })),
    },
    remediation: `Take ${first.name} out of what is given to the agent, or let ${first.rule} redact or pseudonymise it.`,
  })
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const SUFFIX_CHARS = 10

/** `EMAIL_` and ten characters that follow from the original, the rule and the activation, and lead nobody back. */
function pseudonymOf(
  activation: string,
  { name, salt }: DataRule,
  original: string,
  known: ReadonlyMap<string, string>,
): string {
  const head = name.toUpperCase().replace(/[^A-Z0-9]/g, '_')
  for (let round = 0; ; round++) {
    const digest = createHmac('sha256', salt)
      .update(JSON.stringify([activation, name, original, round]))
      .digest()
    const tail = [...digest.subarray(0, SUFFIX_CHARS)].map((byte) => ALPHABET[byte % 32]).join('')
    const pseudonym = `${head}_${tail}`
    const taken = known.get(pseudonym)
    if (taken === undefined || taken === original) return pseudonym
  }
}

/** Where pseudonyms stand in a text. Looks at each underscore once. */
function pseudonymsIn(text: string, known: ReadonlyMap<string, string>): (Found & { original: string })[] {
  if (known.size === 0) return []
  const bySuffix = new Map<string, string[]>()
  for (const pseudonym of known.keys()) {
    const tail = pseudonym.slice(-SUFFIX_CHARS)
    bySuffix.set(tail, [...(bySuffix.get(tail) ?? []), pseudonym])
  }
  const found: (Found & { original: string })[] = []
  for (let at = text.indexOf('_'); at >= 0; at = text.indexOf('_', at + 1)) {
    const end = at + 1 + SUFFIX_CHARS
    const candidates = bySuffix.get(text.slice(at + 1, end)) ?? []
    // The longest name: CARD_… could be the end of CREDIT_CARD_….
    const [pseudonym] = candidates.filter((one) => text.endsWith(one, end)).toSorted((a, b) => b.length - a.length)
    if (pseudonym !== undefined)
      found.push({ start: end - pseudonym.length, end, original: known.get(pseudonym) ?? pseudonym })
  }
  return found
}

/** A text in which every pseudonym is again what it stands for. */
export function restoreText(text: string, { known }: Pseudonyms): string {
  let result = ''
  let at = 0
  for (const { start, end, original } of pseudonymsIn(text, new Map(Object.entries(known)))) {
    if (start < at) continue
    result += text.slice(at, start) + original
    at = end
  }
  return result + text.slice(at)
}

/** The same for all texts in a value. */
export const restoreValue = <T extends Json>(value: T, pseudonyms: Pseudonyms): T =>
  mapTexts(value, (text) => restoreText(text, pseudonyms))

/** A text that comes in pieces: `push` gives what can be given on by now, `end` the rest. */
export interface TextStream {
  push(piece: string): string
  end(): string
}

/** From here on a pseudonym may have begun of which the rest has not come. */
function openEnd(text: string, known: ReadonlyMap<string, string>): number {
  const longest = Math.max(0, ...[...known.keys()].map((one) => one.length))
  let from = text.length
  while (from > 0 && text.length - from < longest - 1 && /[A-Za-z0-9_]/.test(text[from - 1] ?? '')) from--
  return pseudonymsIn(text, known).find(({ start, end }) => start < from && end > from)?.end ?? from
}

/** Restores a text that comes in pieces: a pseudonym that is cut in two is waited for. */
export function restoringStream(pseudonyms: Pseudonyms): TextStream {
  const known = new Map(Object.entries(pseudonyms.known))
  let held = ''
  return {
    push(piece) {
      const text = held + piece
      const cut = openEnd(text, known)
      held = text.slice(cut)
      return restoreText(text.slice(0, cut), pseudonyms)
    },
    end() {
      const rest = restoreText(held, pseudonyms)
      held = ''
      return rest
    },
  }
}

/** Text of which nothing is certain is looked at anew only when there is twice as much. */
const LOOKED_AT_ONCE = 4_096

/**
 * Applies the rules for answers to one that comes in pieces: what may yet become a find is waited for, and the pieces together give what the whole
 * would. Throws `policy.denied` as `applyDataRules` does. Put pseudonyms back afterwards, not before.
 */
export function answerStream(
  place: string,
  rules: Pick<DataRules, 'rules'>,
  pseudonyms: Pseudonyms,
): TextStream & { findings: DataFinding[] } {
  const finders = rules.rules.filter((rule) => rule.on.includes('answers')).map(finderOf)
  const known = new Map(Object.entries(pseudonyms.known))
  const findings: DataFinding[] = []
  let text = ''
  /** What stands before was given; one character of it is kept, because patterns may ask what stands before them. */
  let from = 0
  let lookAt = 0
  const give = (isWhole: boolean): string => {
    const { spans, settled } = spansIn(text, finders, known, { from, isWhole })
    const to = isWhole ? text.length : Math.max(from, Math.min(settled, openEnd(text, known)))
    const now = spans.filter(({ end }) => end <= to)
    const cut = Math.min(to, ...spans.filter(({ start, end }) => start < to && end > to).map(({ start }) => start))
    refuseBlocked(findingsOf(now, place))
    findings.push(...findingsOf(now, place))
    const given = withSpans(text, { from, to: cut }, now, markOf)
    const kept = Math.max(0, cut - 1)
    text = text.slice(kept)
    from = cut - kept
    lookAt = text.length > LOOKED_AT_ONCE ? text.length * 2 : 0
    return given
  }
  return {
    findings,
    push(piece) {
      text += piece
      // Half of a character that takes two places is no character yet.
      return text.length < lookAt || /[\ud800-\udbff]$/.test(text) ? '' : give(false)
    },
    end: () => give(true),
  }
}

/** A copy with every text of a value made anew, keys and numbers included; always in the same order. */
function mapTexts<T extends Json>(value: T, map: (text: string) => string): T
function mapTexts(value: Json, map: (text: string) => string): Json {
  if (typeof value === 'string') return map(value)
  if (typeof value === 'number') {
    // A number of a card may well come as a number.
    const text = String(value)
    const mapped = map(text)
    return mapped === text ? value : mapped
  }
  if (Array.isArray(value)) return value.map((one) => mapTexts(one, map))
  if (!isObject(value)) return value
  const entries = Object.entries(value as JsonObject).map(([key, one]): [string, Json] => [
    map(key),
    mapTexts(one, map),
  ])
  return Object.fromEntries(entries)
}
