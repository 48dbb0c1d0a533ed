import { LIMITS } from '../limits.ts'
import { fitsNothing, parsePattern, type PatternTree } from './pattern-syntax.ts'

/** Where a pattern was found: from `start` up to, not including, `end`. */
export interface Found {
  start: number
  end: number
}

/** What was found in a text of which more may come. */
export interface FoundSoFar {
  /** What more text cannot change. */
  found: Found[]
  /** Up to here all is decided; from here on a match may begin, or have begun. */
  settled: number
}

export interface LinearPattern {
  /** All places, from left to right, as a regular expression of the same text would find them. */
  findAll(text: string): Found[]
  /** The same for a text that goes on. `from`: what lies before it is known, and only looked at by `\b`. */
  findSoFar(text: string, options: { from: number; isWhole: boolean }): FoundSoFar
}

export type CompiledPattern = { kind: 'compiled'; pattern: LinearPattern } | { kind: 'wrong'; message: string }

/**
 * A pattern that takes time by the length of the text times its own, whatever is written in either: it goes through the text once with all
 * ways of fitting at the same time, and never back. Back references and looking around are refused for it. Pure.
 */
export function compilePattern(source: string, options: { ignoreCase: boolean }): CompiledPattern {
  if (source.length > LIMITS.dataPatternChars)
    return { kind: 'wrong', message: `is longer than ${LIMITS.dataPatternChars} characters` }
  const read = parsePattern(source)
  if (read.kind === 'wrong') return read
  if (fitsNothing(read.tree)) return { kind: 'wrong', message: 'fits the empty text, and so is found everywhere' }
  const program: Instruction[] = []
  if (!emit(read.tree, program, options.ignoreCase) || program.length >= LIMITS.dataPatternSize)
    return {
      kind: 'wrong',
      message: `is too large: its repetitions make more than ${LIMITS.dataPatternSize} parts of it`,
    }
  program.push({ op: 'found' })
  const ready = { instructions: program, mayBegin: beginOf(program) }
  const search = (text: string, at: { from: number; isWhole: boolean }): FoundSoFar => run(ready, text, at)
  return {
    kind: 'compiled',
    pattern: { findAll: (text) => search(text, { from: 0, isWhole: true }).found, findSoFar: search },
  }
}

type Instruction =
  | { op: 'char'; fits: (code: number) => boolean }
  /** Goes on at both, the first one preferred. */
  | { op: 'either'; first: number; second: number }
  | { op: 'goto'; to: number }
  | { op: 'at'; what: 'start' | 'end' | 'word' | 'inside' }
  | { op: 'found' }

/** False once the program is too large. */
function emit(tree: PatternTree, program: Instruction[], ignoreCase: boolean): boolean {
  if (program.length >= LIMITS.dataPatternSize) return false
  const more = (one: PatternTree): boolean => emit(one, program, ignoreCase)
  switch (tree.type) {
    case 'char':
      program.push({ op: 'char', fits: tabled(ignoreCase ? inAnyCase(tree.fits) : tree.fits) })
      return true
    case 'at':
      program.push({ op: 'at', what: tree.what })
      return true
    case 'all':
      return tree.of.every(more)
    case 'any': {
      const ends: { op: 'goto'; to: number }[] = []
      for (const [i, one] of tree.of.entries()) {
        if (i === tree.of.length - 1) {
          if (!more(one)) return false
          break
        }
        const either: Instruction = { op: 'either', first: program.length + 1, second: 0 }
        program.push(either)
        if (!more(one)) return false
        const end = { op: 'goto' as const, to: 0 }
        program.push(end)
        ends.push(end)
        either.second = program.length
      }
      for (const end of ends) end.to = program.length
      return true
    }
    case 'repeat': {
      for (let i = 0; i < tree.min; i++) if (!more(tree.of)) return false
      const either = (): { op: 'either'; first: number; second: number } => {
        const one = { op: 'either' as const, first: 0, second: 0 }
        program.push(one)
        return one
      }
      const choose = (at: { first: number; second: number }, inside: number, after: number): void => {
        at.first = tree.isLazy ? after : inside
        at.second = tree.isLazy ? inside : after
      }
      if (tree.max === null) {
        const begin = program.length
        const at = either()
        if (!more(tree.of)) return false
        program.push({ op: 'goto', to: begin })
        choose(at, begin + 1, program.length)
        return true
      }
      const optional: { at: { first: number; second: number }; inside: number }[] = []
      for (let i = tree.min; i < tree.max; i++) {
        const at = either()
        optional.push({ at, inside: program.length })
        if (!more(tree.of)) return false
      }
      for (const { at, inside } of optional) choose(at, inside, program.length)
      return true
    }
  }
}

const inAnyCase =
  (fits: (code: number) => boolean) =>
  (code: number): boolean => {
    if (fits(code)) return true
    const char = String.fromCodePoint(code)
    const others = [char.toLowerCase(), char.toUpperCase()]
    return others.some((other) => {
      const otherCode = other.codePointAt(0) ?? code
      return otherCode !== code && other.length === String.fromCodePoint(otherCode).length && fits(otherCode)
    })
  }

/** The answers for ASCII are looked up. */
function tabled(fits: (code: number) => boolean): (code: number) => boolean {
  const table = Array.from({ length: 128 }, (_, code) => fits(code))
  return (code) => table[code] ?? fits(code)
}

const isWord = (code: number): boolean =>
  (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || code === 95 || (code >= 97 && code <= 122)

/** A way of fitting that is still open. `slot` is the place that its match would take among those found. */
interface Thread {
  at: number
  start: number
  slot: number
}

/** Whether a match may begin with a character; those that cannot are passed over while nothing is open. */
function beginOf(program: readonly Instruction[]): (code: number) => boolean {
  const seen = new Set<number>()
  const chars: ((code: number) => boolean)[] = []
  const stack = [0]
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    if (seen.has(at)) continue
    seen.add(at)
    const instruction = program[at]
    if (instruction?.op === 'char') chars.push(instruction.fits)
    else if (instruction?.op === 'goto') stack.push(instruction.to)
    else if (instruction?.op === 'either') stack.push(instruction.first, instruction.second)
    else stack.push(at + 1)
  }
  return tabled((code) => chars.some((fits) => fits(code)))
}

interface Program {
  instructions: readonly Instruction[]
  mayBegin: (code: number) => boolean
}

function run(
  { instructions, mayBegin }: Program,
  text: string,
  { from, isWhole }: { from: number; isWhole: boolean },
): FoundSoFar {
  const found: Found[] = []
  const seen = new Uint32Array(instructions.length)
  let round = 1
  /** The ways that are open, what is preferred first. */
  let threads: Thread[] = []
  /** Those that stopped where the text does, at a place that more text decides about; `rank`: how many were preferred to them. */
  let stopped: (Thread & { rank: number })[] = []

  // A place in the program that a preferred way has taken is not taken twice: from there on both would go the same way.
  const add = (list: Thread[], first: Thread, position: number): void => {
    const stack = [first]
    for (let thread = stack.pop(); thread; thread = stack.pop()) {
      if (seen[thread.at] === round) continue
      seen[thread.at] = round
      const instruction = instructions[thread.at]
      if (instruction?.op === 'goto') stack.push({ ...thread, at: instruction.to })
      else if (instruction?.op === 'either')
        stack.push({ ...thread, at: instruction.second }, { ...thread, at: instruction.first })
      else if (instruction?.op !== 'at') list.push(thread)
      else if (!isWhole && position === text.length && instruction.what !== 'start')
        stopped.push({ ...thread, rank: list.length })
      else if (holds(instruction.what, text, position)) stack.push({ ...thread, at: thread.at + 1 })
    }
  }

  for (let position = from; ;) {
    const match = threads.findIndex(({ at }) => instructions[at]?.op === 'found')
    const won = threads[match]
    if (won) {
      found.length = won.slot
      found.push({ start: won.start, end: position })
      // What is preferred less is another form of this match, or begins within it.
      threads.length = match
      stopped = stopped.filter(({ rank }) => rank <= match)
      round++
      for (const { at } of threads) seen[at] = round
    }
    const code = position < text.length ? (text.codePointAt(position) ?? 0) : -1
    if (code < 0) break
    if (mayBegin(code)) add(threads, { at: 0, start: position, slot: found.length }, position)
    const next = position + (code > 0xffff ? 2 : 1)
    const following: Thread[] = []
    round++
    for (const thread of threads) {
      const instruction = instructions[thread.at]
      if (instruction?.op === 'char' && instruction.fits(code)) add(following, { ...thread, at: thread.at + 1 }, next)
    }
    threads = following
    position = next
  }
  if (isWhole) return { found, settled: text.length }
  const open = [...threads, ...stopped]
  const slot = Math.min(found.length, ...open.map((thread) => thread.slot))
  // A match that may yet become another one is looked for again from its beginning.
  const undecided = [...open, ...found.slice(slot, slot + 1)].map(({ start }) => start)
  return { found: found.slice(0, slot), settled: Math.min(text.length, ...undecided) }
}

function holds(what: 'start' | 'end' | 'word' | 'inside', text: string, position: number): boolean {
  if (what === 'start') return position === 0
  if (what === 'end') return position === text.length
  const before = position > 0 && isWord(text.charCodeAt(position - 1))
  const after = position < text.length && isWord(text.charCodeAt(position))
  return (before !== after) === (what === 'word')
}
