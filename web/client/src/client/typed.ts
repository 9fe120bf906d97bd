/** A client that knows one application only: what the application does not have does not compile. Types only. */

import type { Reply } from "../model/model.js";
import type { Client, ListOptions } from "./client.js";
import type { EntityState } from "./entity.js";
import type { LiveList } from "./list.js";
import type { Rest } from "./options.js";

/** What `huahuo types` says of an application. */
export interface Application {
  readonly commands: object;
  readonly lists: object;
  readonly states: object;
}

type Fields<T> = T extends { fields: infer F } ? F : never;
type Answer<T> = T extends { reply: infer R } ? R : never;
type Row<T> = T extends { row: infer R } ? R : never;
type Kind<S extends string> = S extends `${infer K}/${string}` ? K : S;

/**
 * `const client: AppClient = new Client({ … })`, where `AppClient` is of the module that `huahuo types` makes: a
 * misspelt action, field, list or kind is an error that names those that there are.
 */
export interface TypedClient<App extends Application> extends Omit<Client, "send" | "list" | "entity" | "pages"> {
  send<A extends keyof App["commands"]>(
    action: A, ...rest: Rest<Fields<App["commands"][A]>>
  ): Promise<Reply & Answer<App["commands"][A]>>;
  list<N extends keyof App["lists"]>(name: N, fields: Fields<App["lists"][N]>, options?: ListOptions): LiveList<Row<App["lists"][N]>>;
  entity<S extends `${keyof App["states"] & string}/${string | number}`>(
    stream: S,
  ): EntityState<App["states"][Kind<S> & keyof App["states"]]>;
}


