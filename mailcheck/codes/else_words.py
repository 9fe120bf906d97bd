"""What people write next to a number that is no code, in lower case and eight languages. Data only."""

from typing import Final

from huahuo.mailcheck.codes.words import listed

TO_CONTACT: Final = listed(
    """
    to contact | to call | to phone | to reach us | to reach our | to text us | um uns | pour nous |
    pour contacter | para contactar | para llamar | чтобы связаться | 联系 | 致电 | で問い合わせ
    """
)
"""After a number that somebody is to use: it is a phone number."""

LAST: Final = listed(
    "last | final | ending | letzte | letzten | endziffern | derniers | dernières | últimos | últimas |"
    " ultimos | ultimas | последние | последних | последними"
)
LAST_WIDE: Final = listed("后 | 後 | 最后 | 末 | 末尾 | 尾号 | 下 | 最後の | 끝 | 뒤 | 뒷 | 마지막")
DIGITS: Final = listed(
    "digits | digit number | ziffern | stellen | chiffres | dígitos | digitos | cifras | цифры | цифр |"
    " цифрами"
)
DIGITS_WIDE: Final = listed("位数字 | 位 | 桁の番号 | 桁の数字 | 桁 | 자리 숫자 | 자리 번호 | 자리")
"""`last four digits`: the end of a card's or a phone's number, and no code."""

NOT_BEFORE: Final = listed(
    """
    friend | friends | reward | bonus | partner | affiliate | creator | loyalty | welcome | 特典 |
    キャンペーン | ギフト | 引換 | 応募 | 福利 | 礼包 | 礼品 | 혜택 | 이벤트 | 선물 | 기프트 |
    реферальный | пригласительный | подарочный | партнёрский |
    promo | promotion | promotional | discount | coupon | voucher | referral | invite | invitation | zip |
    postal | post | area | country | error | status | source | product | gift | qr | bar | dress |
    tracking | booking | reservation | item | sort | branch | exit | colour | color | building | tax |
    swift | qr- | rate | fare | door | gate | pickup | pick-up | collection | promo- | class | bank |
    return | returns | warranty | repair | claim | shipping | delivery | 退货 | 退換 | 退换 | 返品 | 保修 |
    保証 | 반품 | 교환 | 보증 | 배송 | meeting | conference |
    license | licence | morse | course | style | wi-fi | wifi | group | 会议 |
    會議 | 初始 | 支付 | 取件 | 提货 | 取货 | 验真 | 核销 | 折扣 | 门禁 | 開門 | 开门 | 割引 | 郵便 |
    商品 | 紹介 | 招待 | 注文 | 予約 | 電話 | 追跡 | 伝票 | 会員 | 受付 | 优惠 | 邀请 | 错误 | 推广 |
    兑换 | 邮政 | 源 | 二维 | 口座 | 整理 | 管理 | 製品 | 型番 | 製造 | シリアル | 社員 | 暗証 | 会議 |
    股票 | 基金 | 证券 | 机构 | 院校 | 学校 | 专业 | 项目 | 产品 | 发票 | 车站 | 机场 | 城市 | 国家 | 地区 |
    教室 | 课程 | 部门 | 信用 | 営業所 | 店舗 | クーポン | お客様 | プロモーション | バー | エラー |
    お問い合わせ | ソース | 할인 |
    쿠폰 | 프로모션 | 우편 | 상품 | 에러 | 오류 | 초대 | 추천 | 주문 | 예약 | 전화 | 운송장 | 송장 |
    고객 | 회원 | 등록 | 접수 | 바 | 소스 | 계좌 | 기기 | 차량 | 일련 | 사업자등록 | 사업자 | 회의 |
    출입 | 좌석 | 편명 | почтовый | промо | скидочный | штрих | исходный
    """
)
"""Before a weak word: another kind of code."""

NOT_AFTER: Final = listed(
    """
    parrain | ami | amis | avantage | avantages | cadeau | d'invitation | d’invitation | partenaire |
    de invitación | de invitado | de amigo | de regalo | de promoción | de referido | друга |
    приглашения | для друга | promo | de réduction | de remise | postal | de descuento | promocional |
    de parrainage | erreur | d'erreur | de error | source | fuente | barre | de barras | qr | review |
    of conduct | de pedido | portail | d'entrée | de client | de recogida | de cliente | de vuelo |
    de tarjeta | pin de | получения | бронирования | ячейки | домофона | двери | страны | города |
    заказа | клиента | de suivi | de reserva | civil | de la route | de producto | de referencia |
    de retour | de garantie | de devolución | de garantía | de envío | de livraison | возврата | гарантии |
    доставки | отправления | region | ошибки | товара | скидки | региона | купона
    """
)
"""After a weak word: another kind of code."""

PURPOSES: Final = frozenset(
    listed(
        """
    this | that | following | new | next | short | secret | secure | special | unique | personal |
    private |
    numeric | digit | character | letter | correct | right | same | temporary | email | mail | sms |
    text |
        phone | mobile | app | auth | login | signin | signup | access | user | account | device | guard |
        safety | magic | launch | verify | confirm | transaction | ride | trip | backup | bypass | enrolment |
        enrollment | registration | linking | link | payment | payout | latest | current | last | final |
    first | second | exact | full | entire | whole | above | below | provided | received | given |
    actual |
        single | only | master | session | browser | console | television | laptop | tablet | bot |
        enter | use | using | with | type | quote | give | show | say | tell | provide | submit | insert |
        paste |
        copy | and | via | see | get | need | input | verification | security | confirmation | recovery |
        reset
        """
    )
)
"""Between `your` and `code`: what one who signs in calls it. Others are codes of other things."""

LABELS: Final = listed(
    """
    session id | sitzungs-id | session-id | on line | at line | in line | in zeile | à la ligne |
    en la línea | в строке | course | curso | cours | kurs | курс | 科目 | module | chapter | section |
    kapitel | chapitre | capítulo | глава | train | tren | zug | ice | tgv | поезд | 账户 | アカウント |
    계정 | pnr |
    report to | report it to | report it at | report one at | report them to | forward it to |
    forward them to | melden unter | melden sie unter | signalez-le au | signalez au | denuncia en el |
    caso | el caso | ticket n | tique | gestión |
    retoure | return | returns | devolución | возврат | 退货单 | job | reading | readings | last reading |
    stand | relevé | lectura | показания | показание | 读数 | 指示数 | 지침 | incident | incident number |
    request | meter | vorfall | zähler | zählers | stromzählers | demande | l'incident | compteur |
    incidente | solicitud | contador | запрос | запроса | инцидент | счётчик | счётчика | счетчик |
    счетчика | 工号 | 户号 | 单 | 事件 | 许可证 | メーター | 계량기 | code portail | code d'entrée |
    ending | ends in | ending with | ends with | exited with code | failed with code | box office |
    meeting id |
    conference id | extension |
    device | case no | employee | staff | policy | contract | endet auf | personalnummer | vertragskonto |
    vertragsnummer | kennung | meeting-id | postfach | amtsgericht | contrat | se termine par |
    finissant par | termina en | que termina en | cif | nif | contrato | operación | 序号 | 序號 |
    设备编号 | 申请编号 | 证书编号 | 会议号 | 票号 | 備案 | 备 | 第 | 編號 | 伝票 | 証券番号 | 契約番号 |
    会員id | 品番 | 型番 | で終わる | 기기번호 | 문의번호 | 신청번호 | 차량번호 | 일련번호 | 계약번호 |
    편명 | 회의 id | оканчивается на | заканчивается на | инн | огрн | ячейки | ячейка | конференции |
    версия | аккаунта | аккаунт | order | invoice | tracking | reference | ref | case | ticket | booking |
    reservation | account | phone | tel | fax | call | version | room | flight | suite | box | model | sku |
    item | build | customer | member | parcel | shipment | ending in | card | street | year | since |
    copyright | © | (c) | in | of | until | by | total | amount | discount | coupon | voucher | promo code |
    discount code | zip | postal code | error | issue | pr | pull request | article | receipt | iban | ext |
    promo | gift card | zip code | error code | isbn | referral code | tracking code | text | order number |
    confirmation number | commit | 〒 | bestellung | bestellnummer | rechnung | rechnungsnummer |
    sendungsnummer | kundennummer | telefon | auftrag | vorgang | vorgangsnummer | buchung |
    buchungsnummer | plz | gutscheincode | rabattcode | aktenzeichen | ticketnummer | seit | nr | nummer |
    fehlercode | auftragsnummer | aktionscode | konto | artikel | mitgliedsnummer | endend auf | hrb |
    code promo | commande | facture | numéro | réservation | suivi | dossier | téléphone | tél | n° | no |
    client | code postal | depuis | en | référence | billet | colis | compte | code de réduction | siren |
    se terminant par | code erreur | code d'erreur | vol | pedido | factura | número | seguimiento |
    reserva | teléfono | cliente | expediente | código postal | referencia | envío | código promocional |
    código de descuento | desde | núm | cuenta | incidencia | terminada en | cupón | código de error |
    vuelo | № | 订单 | 订单号 | 运单号 | 快递单号 | 单号 | 编号 | 电话 | 热线 | 客服 | 手机 | 手机号 |
    尾号 | 尾号为 | 金额 | 余额 | 共 | 工单 | 发票 | 邮编 | 优惠码 | 邀请码 | 兑换码 | 取件码 | 积分 |
    会员号 | 账号 | 版本 | qq群 | 航班 | 卡号 | 发票号码 | 致电 | 拨打 | 截至 | 注文番号 | 追跡番号 |
    伝票番号 | 予約番号 | 電話 | 電話番号 | 会員番号 | 受付番号 | 郵便番号 | 請求書番号 | 合計 | 下4桁 |
    末尾 | 商品番号 | ご注文番号 | お問い合わせ番号 | お客様番号 | クーポンコード | 割引コード |
    紹介コード | プロモーションコード | エラーコード | 商品コード | 送り状番号 | 주문번호 | 주문 번호 |
    송장번호 | 운송장 번호 | 운송장번호 | 예약번호 | 예약 번호 | 전화 | 고객센터 | 회원번호 | 우편번호 |
    합계 | 쿠폰 코드 | 쿠폰번호 | 접수번호 | 할인 코드 | 쿠폰코드 | 청구서 번호 | 총 | 계좌번호 | 문의 |
    초대 코드 | 추천 코드 | 상품 번호 | 오류 코드 | 고객번호 | 등록번호 | заказ | заказа | заказу | номер |
    счет | счёт | накладная | трек-номер | телефон | тел | бронь | бронирования | договор | договора |
    обращение | обращения | промокод | промокоду | индекс | сумма | карты | заявка | заявки | итого | рейс |
    код ошибки | клиента | посылка | чек | почтовый индекс
    """
)
"""Directly before a number: it is something else."""

UNITS: Final = listed(
    """
    lines | letters | characters | 文字 | others | vouchers | codes | new | neue | nouveaux | nouvelles |
    nuevos | nuevas | новых | новые | reviews | photos | likes | followers | orders | places | seats |
    messages | usd | eur | gbp | cny | rmb | jpy | krw | rub | € | $ | £ | ¥ | ₽ | ₩ | euro | euros |
    dollars | minutes | minute | min | hours | days | seconds | people | users | points | items | km | kg |
    gb | mb | kb | % | percent | members | subscribers | readers | stars | mal | punkte | minuten |
    stunden | tage | uhr | jahre | puntos | minutos | personnes | personas | ans | años | steps | commits |
    words | km/h | m² | downloads | jobs | stellen | offres | ofertas | participants | teilnehmer |
    participantes | kunden | clients | clientes | pasos | seiten | pages | páginas | mails | fälle | cas |
    casos | customers | companies | visitors | changes | zeilen | lignes | líneas | sq | ft | m | m2 |
    px | × | pixels | mm | cm | ms | kwh | miles | 元 | 円 |
    分钟 | 分 | 点 | 年 | 月 | 日 | 号 | 人 | 位 | 次 | 件 | 个 | 名 | 万 | 积分 | 年度 | 本 | 冊 | 行 |
    回 | 票 | 页 | 篇 | 条 | 封 | 家 | 岁 | 天 | 小时 | 秒 | 吨 | 名様 | 時間 | 分間 | ポイント | 원 | 건 |
    줄 | 회 | 장 | 초 | 개 | 명 | 년 | 분 | 시간 | 포인트 | 일 | 월 | руб | рублей | евро | года | год |
    году | г. | минут | баллов | человек | дней | лет | бонусов | вакансий | участников | клиентов |
    страниц | случаев | строк | изменений |
    scams | frauds | calls | attempts | attacks | anrufe | versuche | betrugsversuche | angriffe | konten |
    appels | tentatives | arnaques | fraudes | attaques | llamadas | intentos | estafas | ataques | звонков |
    попыток | атак | мошенников | 室 | 号室 | 楼 | 层 | 栋 | 单元 | 호실 | 층 | 起诈骗 | 起欺诈 | 起攻击 |
    起案件 | 起事件 | 通电话 |
    通来电 | 通未接 |
    通诈骗 | 通骚扰
    """
)
"""Directly after a number: it is an amount, a time or a year."""

ELSEWHERE: Final = listed(
    """
    净值 | 年化 | 申购 | 赎回 | referral | refer a friend | empfehlungscode | parrainage |
    código de invitación | referido | реферальн |
    推荐码 | 紹介コード | 추천 코드 | meeting id | webinar | webinaire | seminario web | вебинар |
    webseminar |
    网络研讨会 | 웨비나 |
    gift card | geschenkkarte | carte cadeau | tarjeta regalo | подарочная карта | подарочной карт |
    礼品卡 | 禮品卡 | ギフトカード | 선물카드 | 기프트카드 | % de descuento | de descuento | de réduction |
    % rabatt | wi-fi: | wifi: | réseau : | 와이파이: | parcel locker | your locker | the locker |
    in locker | locker n | locker: | schließfach | casier | taquilla | ячейк |
    智能柜 | 快递柜 | ロッカー | 보관함 | 사물함 | dial in | dial-in | video call | conference id |
    check-in | checkout before | at checkout | boarding | conference call | your cart | warenkorb | panier |
    carrito | корзин | 购物车 | カート | 장바구니 | itinerary | reservation is | your booking | your stay |
    redeem | voucher | coupon | % off | save up to | discount | kurier | zusteller | livreur | coursier |
    repartidor | mensajero | курьер | 骑手 | 外卖 | 配達員 | 배달 | api key | api access | api-schlüssel |
    clé api | clé d'api | clave api | api-ключ | api 密钥 | api密钥 | api访问 | apiキー | api 키 |
    pull request | commit | build failed | exit code | parcel | package | courier | licence key |
    license key | front door | gate code | door code | subscribers | meeting-id | besprechung |
    telefoneinwahl | buchungscode | buchungsnummer | abfahrt | abflug | gutschein | rabatt | packstation |
    abhol | sendungsnummer | paket | schlüsseltresor | schlüsselbox | ferienwohnung | wlan-passwort |
    visioconférence | id de réunion | embarquement | dossier de voyage | billet | code promo | remise |
    colis | point de retrait | retrait en | digicode | portail s'ouvre | code du portail | code portail |
    le portail de la | videollamada | id de reunión | localizador | embarque | vuelo | código de descuento |
    cupón | recogida | código promocional | paquete | portal de la casa | 会议号 | 会议 id | 會議號 |
    会议密码 | 航班 | 车次 | 入住 | 登机 | 出票 | 优惠码 | 優惠碼 | 折扣码 | 满减 | 邀请码 | 邀請碼 | 取件 |
    快递 | 驿站 | 包裹 | 兑换码 | 门禁 | ミーティングid | 会議 | ウェビナー | 予約 | ご搭乗 | 便名 |
    クーポン | 割引 | 宅配 | お届け | ライセンスキー | シリアル | 회의 id | 화상회의 | 항공권 | 예약 |
    탑승 | 쿠폰 | 할인 | 택배 | 배송 | 공동현관 | 초대 코드 | конференци | видеовстреч | рейс | бронирован |
    билет | промокод | скидк | посылк | постамат | выдач | домофон
    """
)
"""What the mail is about instead: a meeting, a journey, a delivery, a discount, a door, a program."""

PAID: Final = listed(
    """
    amount | purchase | betrag | summe | zahlung | montant | paiement | importe | compra | pago | сумма |
    сумму | оплат | покупк | 金额 | 交易 | 消费 | 金額 | お支払 | ご利用 | 금액 | 결제
    """
)
"""What a mail about a payment says."""

DEALS: Final = listed(
    """
    invoice | receipt | your order | order number | tracking | newsletter | appointment | statement |
    subscription | tickets | shipped | delivery | report | rechnung | bestellung | lieferung | termin |
    sendung | quittung | facture | commande | livraison | rendez-vous | reçu | factura | tu pedido |
    su pedido | pedido n | entrega | cita | envío | recibo | счёт за | счет за | счёт на | счет на |
    квитанц | чек № | чек на | заказ | доставк | запись | талон | рассылк | 订单 | 发票 | 账单 | 运单 |
    预约 | 购票 | 注文 | 請求書 | 請求額 | 請求金額 | 請求番号 | ご請求 | 発送 | 配送 | 受付番号 | 抽選 |
    주문 | 영수 | 고지서 | 청구 | 배송 | 예매
    """
)
"""What a mail with the number of something bought or arranged says."""
