import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { defineFunction } from '../../src/sdk/index.ts'
import { readEntries, topDirectory } from './inventory.ts'
import { isTest, type Language, languageOf } from './language.ts'

/** Larger files are data, not source: their lines are counted as a stream and nothing more. */
const HUGE_BYTES = 2 * 1024 * 1024
/** git's own rule: a NUL among the first bytes makes a file binary. */
const BINARY_PROBE_BYTES = 8_000

export const Measure = z.object({
  directory: z.string(),
  files: z.number(),
  bytes: z.number(),
  lines: z.number(),
  blank: z.number(),
  comments: z.number(),
  testFiles: z.number(),
  testLines: z.number(),
  binaryFiles: z.number(),
  hugeFiles: z.number(),
})

/** Lines, comments and tests of one top-level directory. The workflow runs it for every directory, some at a time. */
export const measureDirectory = defineFunction({
  input: z.object({ root: z.string(), inventory: z.string(), directory: z.string() }),
  output: Measure,
  async run({ root, inventory, directory }, { signal, log }) {
    const sum: z.infer<typeof Measure> = {
      directory,
      files: 0,
      bytes: 0,
      lines: 0,
      blank: 0,
      comments: 0,
      testFiles: 0,
      testLines: 0,
      binaryFiles: 0,
      hugeFiles: 0,
    }
    for await (const { path, bytes, kind } of readEntries(inventory)) {
      if (kind !== 'file' || topDirectory(path) !== directory) continue
      signal.throwIfAborted()
      const counted = await countFile(join(root, path), { bytes, language: languageOf(path) })
      sum.files++
      sum.bytes += bytes
      if (counted === 'binary') sum.binaryFiles++
      else {
        if (bytes > HUGE_BYTES) sum.hugeFiles++
        sum.lines += counted.lines
        sum.blank += counted.blank
        sum.comments += counted.comments
        if (isTest(path)) {
          sum.testFiles++
          sum.testLines += counted.lines
        }
      }
    }
    log(`${directory}: ${sum.lines} lines in ${sum.files} files`)
    return sum
  },
})

export interface LineCount {
  lines: number
  blank: number
  comments: number
}

async function countFile(
  path: string,
  file: { bytes: number; language: Language | null },
): Promise<LineCount | 'binary'> {
  if (file.bytes > HUGE_BYTES) return countHugeFile(path)
  const content = await readFile(path)
  if (isBinary(content)) return 'binary'
  return countLines(content.toString('utf8'), file.language)
}

async function countHugeFile(path: string): Promise<LineCount | 'binary'> {
  let lines = 0
  let first = true
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
    if (first && isBinary(chunk)) return 'binary'
    first = false
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines++
  }
  return { lines, blank: 0, comments: 0 }
}

const isBinary = (content: Buffer): boolean => content.subarray(0, BINARY_PROBE_BYTES).includes(0)

/** Counts a line as a comment when it holds nothing else; marks inside strings are not told apart. */
export function countLines(text: string, language: Language | null): LineCount {
  const count = { lines: 0, blank: 0, comments: 0 }
  const [open, close] = language?.block ?? [null, null]
  let inside = false
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    count.lines++
    if (line === '') count.blank++
    else if (inside) {
      count.comments++
      inside = !line.includes(close ?? '')
    } else if (open !== null && line.startsWith(open)) {
      count.comments++
      inside = !line.slice(open.length).includes(close)
    } else if (language?.line.some((mark) => line.startsWith(mark))) count.comments++
  }
  // What follows the last line break is a line only when there is something in it.
  if (text === '' || text.endsWith('\n')) {
    count.lines--
    count.blank--
  }
  return count
}
