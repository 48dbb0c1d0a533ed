import path from 'node:path'
import { LineCounter, parseDocument, isMap, isScalar } from 'yaml'
import { type Json, nearest } from '../base/index.ts'
import type { Problem } from '../domain/failure.ts'
import { SETTING_NAMES, type SettingName } from './settings.ts'

/** A value as it was given, and where. */
export interface Found {
  raw: Json
  source: string
  /** Directory that paths inside it are relative to. */
  base: string
  place: Pick<Problem, 'path' | 'file' | 'line' | 'column'>
}

/** Settings of a YAML file with their places; what is wrong with it is added to `problems`. */
export function readFileSettings(file: { path: string; text: string }, problems: Problem[]): Map<SettingName, Found> {
  const found = new Map<SettingName, Found>()
  const lines = new LineCounter()
  const document = parseDocument(file.text, { lineCounter: lines, uniqueKeys: true })
  const placeOf = (offset: number): { file: string; line: number; column: number } => {
    const { line, col } = lines.linePos(offset)
    return { file: file.path, line, column: col }
  }
  for (const error of document.errors) {
    const message = error.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? 'not YAML'
    problems.push({ code: 'config.invalid', message, path: '', ...placeOf(error.pos[0]) })
  }
  if (document.errors.length > 0 || document.contents === null) return found
  const root: unknown = document.contents
  if (!isMap(root)) {
    problems.push({ code: 'config.invalid', message: 'must be a mapping of settings', path: '', ...placeOf(0) })
    return found
  }
  // The core schema without custom tags gives JSON values only.
  const values = document.toJS() as Record<string, Json>
  for (const pair of root.items) {
    if (!isScalar(pair.key)) continue
    const key = String(pair.key.value)
    const keyPlace = placeOf(pair.key.range?.[0] ?? 0)
    const name = SETTING_NAMES.find((candidate) => candidate === key)
    if (!name) {
      const near = nearest(key, SETTING_NAMES)
      problems.push({
        code: 'config.key_unknown',
        message: `there is no setting ${JSON.stringify(key)}`,
        path: key,
        ...keyPlace,
        ...(near ? { nearest: near } : {}),
      })
      continue
    }
    const node = pair.value
    const offset = node !== null && typeof node === 'object' && 'range' in node ? rangeStart(node.range) : null
    found.set(name, {
      raw: values[key] ?? null,
      source: `${file.path}:${keyPlace.line}`,
      base: path.dirname(file.path),
      place: { path: key, ...(offset === null ? keyPlace : placeOf(offset)) },
    })
  }
  return found
}

const rangeStart = (range: unknown): number | null =>
  Array.isArray(range) && typeof range[0] === 'number' ? range[0] : null
